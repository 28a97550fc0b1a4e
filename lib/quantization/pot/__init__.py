"""OpenVINO's older tool, POT, in an environment of its own."""
