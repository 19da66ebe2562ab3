"""Many scans into one folder: a row and a JSON file a scan, as they come, whatever happens.

`scans.py` finds the scans of a tree, a list or a DICOMDIR; `record.py` keeps the rows, which are
the record of what is done; `run.py` brings both together with a client.
"""
