"""Helpers of the study: what the notebooks import."""

import os

# OpenVINO and NNCF would report their use over the network and write an identifier into the user's
# home. Their telemetry keeps silent where this says so, in this process and in those it starts.
os.environ["CI"] = "true"
