"""How many scans a server scores: perf_analyzer on windows, our own client on whole scans."""
