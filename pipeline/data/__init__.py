"""Reading a competition's images and tables into one packed store; the only floor-2 package that touches files."""
