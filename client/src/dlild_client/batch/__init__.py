"""Batch: scores many scans into one folder, with a row and a JSON file per scan; resumable.

`scans.py` finds the scans of a tree, a list or a DICOMDIR; `record.py` writes the rows, which also
record the progress; `run.py` runs the batch with a client. `on_dask.py` is the scorer for a Dask
cluster, `worker.py` the task that its workers run.
"""
