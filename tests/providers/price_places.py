"""Every place with a price source: its function, and the documents that make a good answer, at the paths it asks."""

import json
from importlib import import_module

TRANSFERS = "/offers/v1.0/aws/AWSDataTransfer/current/index.csv"
BANDWIDTH = "/api/retail/prices?$filter=serviceName eq 'Bandwidth' and priceType eq 'Consumption'"
RATES = "/stats/eurofxref/eurofxref-daily.xml"
RETAIL = "/api/retail/prices?$filter=serviceName eq 'Virtual Machines' and priceType eq 'Consumption'"
EC2 = "/offers/v1.0/aws/AmazonEC2/current"
SCALEWAY = [
    f"/instance/v1/zones/{zone}-{n}/products/servers" for zone in ("fr-par", "nl-ams", "pl-waw") for n in (1, 2, 3)
]

#: Place to (folder, documents by path, the files or variables that hold its key).
PLACES = {
    "aws": ("aws", {f"{EC2}/region_index.json": "aws-regions.json", f"{EC2}/us-east-1/index.csv": "aws-us-east-1.csv",
                    TRANSFERS: "aws-transfers.csv", "/spot.json": "aws-spot.json",
                    "/spot-advisor-data.json": "aws-advisor.json"}, {}),
    "azure": ("azure", {RETAIL: "azure-1.json", BANDWIDTH: "azure-bandwidth.json",
                        "/api/retail/prices?$filter=x&$skip=1000": "azure-2.json"}, {}),
    "gcp": ("gcp", {"/machine-types-regions.csv": "gcp.csv"}, {}),
    "oci": ("oci", {"/a/ocom/docs/cloudestimator2/data/shapes.json": "oci-shapes.json",
                    "/pls/apex/cetools/api/v1/products/?currencyCode=USD": "oci-products.json"}, {}),
    "ovhcloud": ("ovhcloud", {"/1.0/order/catalog/public/cloud?ovhSubsidiary=IE": "ovhcloud.json",
                              RATES: "rates.xml"}, {}),
    "runpod": ("runpod", {"/graphql": None}, {}),
    "vast": ("vast", {"/api/v0/bundles/": "vast.json"}, {}),
    "vultr": ("vultr", {"/v2/plans": "vultr.json", "/v2/plans-metal": "vultr-metal.json"}, {}),
    "scaleway": ("scaleway", {RATES: "rates.xml", **dict.fromkeys(SCALEWAY, "scaleway.json")}, {}),
    "lambda": ("lambda_cloud", {"/api/v1/instance-types": "lambda.json"},
               {".lambda_cloud/lambda_keys": "api_key = secret-lambda-1\n"}),
    "do": ("digitalocean", {"/v2/sizes?per_page=200": "digitalocean.json"},
           {".config/doctl/config.yaml": "context: default\naccess-token: secret-do-1\n"}),
    "hetzner": ("hetzner", {"/v1/pricing": "hetzner-pricing.json", "/v1/server_types": "hetzner.json",
                            RATES: "rates.xml"},
                {".config/hcloud/cli.toml": 'active_context = "x"\n[[contexts]]\n  token = "secret-hetzner-1"\n'}),
    "shadeform": ("shadeform", {"/v1/instances/types": "shadeform.json"}, {".shadeform/api_key": "secret-shade-1\n"}),
    "verda": ("verda", {"/v1/oauth2/token": "verda-token.json", "/v1/instance-types": "verda.json",
                        "/v1/instance-availability?is_spot=false": "verda-stock.json",
                        "/v1/instance-availability?is_spot=true": "verda-stock-spot.json"},
              {".verda/config.json": json.dumps({"client_id": "me", "client_secret": "secret-verda-1"})}),
    "cudo": ("cudo", {"/v1/vms/machine-types": "cudo.json"}, {".config/cudo/cudo.yml": "key: secret-cudo-1\n"}),
    "seeweb": ("seeweb", {"/ecs/v2/plans": "seeweb.json", RATES: "rates.xml"},
               {".seeweb_cloud/seeweb_keys": "[DEFAULT]\napi_key = secret-seeweb-1\n"}),
    "mithril": ("mithril", {"/v2/instance-types": "mithril-types.json", "/v2/spot/availability": "mithril.json"},
                {".config/mithril/config.yaml": "api_key: secret-mithril-1\n"}),
    "primeintellect": ("primeintellect", {"/api/v1/availability/gpus": "primeintellect.json"},
                       {".prime/config.json": '{"team_id": null, "api_key": "secret-prime-1"}'}),
    "hyperbolic": ("hyperbolic", {"/v2/skypilot/catalog": "hyperbolic.json"},
                   {".hyperbolic/api_key": "secret-hyper-1"}),
    "fluidstack": ("fluidstack", {"/list_available_configurations": "fluidstack.json"},
                   {".fluidstack/api_key": "secret-fluid-1"}),
}  # fmt: skip
KEYED = sorted(place for place, (_, _, keys) in PLACES.items() if keys)


def source(place):
    return import_module(f"sky.providers.{PLACES[place][0]}.prices").rows


def stocked(world, place, home):
    """Put the good documents of a place, and the user's key, where its source looks."""
    _, documents, keys = PLACES[place]
    for path, recorded in documents.items():
        if recorded is not None:
            world.recorded(path, recorded)
    if place == "runpod":
        world.answers["/graphql"] = graphql("runpod-places.json", "runpod-stock.json")
    for file, content in keys.items():
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text(content)


def graphql(places, stock):
    """Answer a question for places with the one document and any other with the other."""
    from price_world import RECORDED

    def answer(handler, body):
        asked = json.loads(body)["query"]
        name = places if "query Places" in asked else stock
        return 200, {"Content-Type": "application/json"}, (RECORDED / name).read_bytes()

    return answer
