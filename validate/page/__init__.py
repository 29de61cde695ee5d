"""report.html: a validation as one page that needs nothing else, and the parts that other pages are made of.

document.py     a whole page: head, sections, style.css, script.js; no request leaves it
templates.py    templates/*.html, filled in; every text is escaped
tiles.py        pictures side by side, searched and sorted; viewed large
scatter.py, histogram.py, profile.py, interval.py, precision_map.py     plots, as SVG that follows the page's colours
report_page.py  `write_page`, and one module for each of its sections
"""
