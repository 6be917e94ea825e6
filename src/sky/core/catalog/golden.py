"""Prices that were checked by hand, against which every refresh is held (`core.catalog.regression`).

USD per hour, Linux, on demand, shared tenancy, as the vendors' public price lists had them in July and August 2026. A
price that a vendor has really changed is changed here with the next version; until then the user may accept it.
"""

from __future__ import annotations

from sky.core.catalog.regression import Golden

GOLDEN: Golden = {
    ("aws", "m5.xlarge", "us-east-1"): 0.192,
    ("aws", "g4dn.xlarge", "us-east-1"): 0.526,
    ("aws", "g5.xlarge", "us-east-1"): 1.006,
    ("aws", "g6e.xlarge", "us-east-1"): 1.861,
    ("aws", "p4d.24xlarge", "us-east-1"): 21.957642,
    ("aws", "p4de.24xlarge", "us-east-1"): 27.44705,
    ("aws", "p5.48xlarge", "us-east-1"): 55.04,
    ("aws", "p5en.48xlarge", "us-east-1"): 63.296,
    ("aws", "trn1.32xlarge", "us-east-1"): 21.5,
    ("gcp", "a2-highgpu-1g", "us-central1"): 3.673385,
    ("gcp", "a3-highgpu-8g", "us-central1"): 88.49,
    ("gcp", "g2-standard-4", "us-central1"): 0.706832,
    ("gcp", "n1-standard-8", "us-central1"): 0.38,
    ("azure", "Standard_ND96asr_v4", "eastus"): 27.197,
    ("azure", "Standard_ND96isr_H100_v5", "eastus"): 98.32,
    ("azure", "Standard_NC24ads_A100_v4", "eastus"): 3.673,
    ("azure", "Standard_NC4as_T4_v3", "eastus"): 0.526,
    ("azure", "Standard_D4s_v5", "eastus"): 0.192,
}
