"""What is made of measurements: tables, figures that can be compared, charts, and a page of all of them."""
