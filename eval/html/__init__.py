"""Parts of self-contained HTML reports."""
