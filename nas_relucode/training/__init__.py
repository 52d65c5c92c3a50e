"""From images to a trained network: data sets, Table 1, the recipe of appendix B.1 and its fast steps."""
