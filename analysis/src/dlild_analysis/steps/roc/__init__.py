"""ROC curves of the two-way outcome."""
