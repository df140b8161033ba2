"""Reports: charts as SVG, and the page of a demo."""
