"""Steps that follow patients from visit to visit."""
