"""What is wrong with a set of photographs, and what there is of them."""
