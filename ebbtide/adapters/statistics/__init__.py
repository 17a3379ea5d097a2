"""How much two samples differ."""
