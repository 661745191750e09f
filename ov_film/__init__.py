"""FILM frame interpolation on OpenVINO, without TensorFlow or torch."""
