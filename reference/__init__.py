"""Systems that ebbtide is shown, tested and drilled on."""
