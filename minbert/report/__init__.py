"""What people read of a run: report.html, one page that needs no network, and its model card."""
