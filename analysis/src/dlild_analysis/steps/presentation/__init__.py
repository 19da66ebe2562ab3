"""How tables, numbers and figures are written."""
