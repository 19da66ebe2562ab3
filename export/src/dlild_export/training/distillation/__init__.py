"""Knowledge distillation (Hinton et al. 2015): a network taught by another one's answers."""
