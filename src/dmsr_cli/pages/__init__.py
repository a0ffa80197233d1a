"""Self-contained HTML pages: a report of what is wrong with pictures, and results before and after.

A page is one file that asks no network for anything: style, script and pictures are in it.
"""

from dmsr_cli.pages.compare_page import CompareEntry, ComparePage, write_compare_page
from dmsr_cli.pages.document import PAGE_BEGINNING
from dmsr_cli.pages.exhibit import Exhibit
from dmsr_cli.pages.report_page import ReportEntry, ReportPage, write_report_page

__all__ = [
    "PAGE_BEGINNING",
    "CompareEntry",
    "ComparePage",
    "Exhibit",
    "ReportEntry",
    "ReportPage",
    "write_compare_page",
    "write_report_page",
]
