"""A foreign system: bike rentals by the hour, built and run as a user of ebbtide would.

It knows ebbtide by its commands, its system file and what the documentation
tells training code to call; nothing here imports ebbtide.
"""
