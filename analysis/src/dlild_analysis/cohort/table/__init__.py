"""Tables as sites keep them: files, cells, dates, units and codes for what is missing."""
