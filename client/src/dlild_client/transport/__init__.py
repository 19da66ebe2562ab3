"""From windows to an answer: the messages, the exchange of one scan, and the line it runs on.

The exchange knows no network. `blocking.py` and `aio.py` are the two lines, for `Client` and
`AsyncClient`, so that both share one core.
"""
