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
    ("aws", "m6i.xlarge", "us-east-1"): 0.192,
    ("aws", "m7i.xlarge", "us-east-1"): 0.2016,
    ("aws", "c5.xlarge", "us-east-1"): 0.17,
    ("aws", "c6i.xlarge", "us-east-1"): 0.17,
    ("aws", "r5.xlarge", "us-east-1"): 0.252,
    ("aws", "r6i.2xlarge", "us-east-1"): 0.504,
    ("aws", "t3.medium", "us-east-1"): 0.0416,
    ("aws", "g6.xlarge", "us-east-1"): 0.8048,
    ("aws", "g6e.12xlarge", "us-east-1"): 10.49264,
    ("aws", "p3dn.24xlarge", "us-east-1"): 31.212,
    ("aws", "inf2.xlarge", "us-east-1"): 0.7582,
    ("aws", "trn1.2xlarge", "us-east-1"): 1.34375,
    ("gcp", "n2-standard-8", "us-central1"): 0.388472,
    ("gcp", "e2-standard-8", "us-central1"): 0.268024,
    ("gcp", "c2-standard-8", "us-central1"): 0.41744,
    ("gcp", "a2-ultragpu-8g", "us-central1"): 40.5504,
    ("azure", "Standard_E8s_v5", "eastus"): 0.504,
    ("azure", "Standard_F8s_v2", "eastus"): 0.3384,
    ("azure", "Standard_NC48ads_A100_v4", "eastus"): 7.346,
    ("azure", "Standard_NC16as_T4_v3", "eastus"): 1.204,
    ("azure", "Standard_ND96amsr_A100_v4", "eastus"): 32.77,
    ("lambda", "gpu_8x_h100_sxm5", "us-east-1"): 31.92,
}
