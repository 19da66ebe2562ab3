"""What people look at: the summary page, the HTML report, the index of a cohort.

`languages.py` is the one table of their words, in English and Chinese; `facts.py` chooses and
formats what they say of a result; `summary.py` draws the summary page.
"""

from dlild_client.report.summary import summary_page

__all__ = ["summary_page"]
