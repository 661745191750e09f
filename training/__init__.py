"""How the bundled small model was trained: data, samples, network, training and evaluation, in torch."""
