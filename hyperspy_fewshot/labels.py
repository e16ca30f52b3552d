"""Values of a label map that stand for no class."""

REJECTED = -1  # the query resembles no class
MASKED = -2  # left out by the user, or the data are not finite
NEGATIVE = -3  # nearer to a negative example than to any class; rejected in the label map
