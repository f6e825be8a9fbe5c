"""Classification and regression of one or two texts: GLUE and R8."""
