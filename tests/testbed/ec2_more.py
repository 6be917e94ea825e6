"""What moto's EC2 lacks and our provider relies on: the program `aws` beside this file puts it in.

Placement groups; capacity reservations; launches that are made once by their token, with EC2's refusal of other
parameters under it; what becomes of a machine that shuts itself down; tags of an image's snapshots; quotas of EC2,
which a request to increase them sets at once.
"""

import hashlib
import io
import json
import re
import threading
import urllib.parse

_XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"


def patch():
    """Make moto's own classes do what they leave out. Call before the server is made."""
    from moto.ec2 import utils
    from moto.ec2.models.amis import AmiBackend
    from moto.ec2.models.instances import InstanceBackend

    utils.filter_dict_attribute_mapping["client-token"] = "client_token"
    plain_image, plain_run = AmiBackend.create_image, InstanceBackend.run_instances

    def create_image(self, instance_id, name, description, tag_specifications):
        of_image = [each for each in tag_specifications if each["ResourceType"] != "snapshot"]
        made = plain_image(self, instance_id, name, description, of_image)
        for each in tag_specifications:
            if each["ResourceType"] == "snapshot":
                made.ebs_snapshot.add_tags({tag["Key"]: tag["Value"] for tag in each["Tags"]})
        return made

    def run_instances(self, image_id, count, user_data, security_group_names, **kwargs):
        made = plain_run(self, image_id, count, user_data, security_group_names, **kwargs)
        for each in made.instances:
            each._placement.group_name = getattr(_LAUNCHING, "fields", {}).get("Placement.GroupName", "")
        return made

    AmiBackend.create_image, InstanceBackend.run_instances = create_image, run_instances


#: The fields of the launch that a thread is at.
_LAUNCHING = threading.local()


class More:
    """WSGI: answers operations that moto does not know, and hands the others on."""

    def __init__(self, application):
        self.application = application
        self.lock = threading.RLock()
        self.groups, self.reservations, self.quotas, self.launched = {}, {}, {}, {}
        self.serial = 0

    def __call__(self, environ, start_response):
        region = _region(environ)
        target = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if target in ("GetServiceQuota", "RequestServiceQuotaIncrease"):
            told = self.quota(target, region, json.loads(_body(environ) or "{}"))
            if told is not None:
                return _reply(start_response, "200 OK", "application/x-amz-json-1.1", json.dumps(told))
        elif (environ.get("CONTENT_TYPE") or "").startswith("application/x-www-form-urlencoded"):
            fields = dict(urllib.parse.parse_qsl(_body(environ)))
            answer = getattr(self, "do_" + fields.get("Action", ""), None)
            if answer is not None:
                try:
                    told = answer(region, fields, environ)
                except Refusal as refusal:
                    return _refuse(start_response, *refusal.args)
                if isinstance(told, str):
                    name = fields["Action"] + "Response"
                    text = f'<{name} xmlns="{_XMLNS}"><requestId>testbed</requestId>{told}</{name}>'
                    return _reply(start_response, "200 OK", "text/xml", text)
                status, headers, body = told
                start_response(status, headers)
                return [body]
        elif environ.get("PATH_INFO") == "/moto-api/reset":
            self.__init__(self.application)
        return self.application(environ, start_response)

    # -- placement groups -----------------------------------------------------
    def do_CreatePlacementGroup(self, region, fields, environ):
        name = fields["GroupName"]
        with self.lock:
            if (region, name) in self.groups:
                raise Refusal("InvalidPlacementGroup.Duplicate", f"The placement group {name} exists")
            group = {
                "groupName": name,
                "strategy": fields.get("Strategy", "cluster"),
                "state": "available",
                "groupId": self.number("pg"),
                "tagSet": _tags(fields, "placement-group"),
            }
            self.groups[region, name] = group
        return f"<return>true</return><placementGroup>{_xml(group)}</placementGroup>"

    def do_DescribePlacementGroups(self, region, fields, environ):
        names = [value for key, value in fields.items() if key.startswith("GroupName.")]
        found = [
            each
            for (where, name), each in sorted(self.groups.items())
            if where == region and (not names or name in names) and _passes(each, fields)
        ]
        items = "".join(f"<item>{_xml(each)}</item>" for each in found)
        return f"<placementGroupSet>{items}</placementGroupSet>"

    def do_DeletePlacementGroup(self, region, fields, environ):
        name = fields["GroupName"]
        with self.lock:
            if (region, name) not in self.groups:
                raise Refusal("InvalidPlacementGroup.Unknown", f"The placement group {name} is unknown")
            if any(each._placement.group_name == name for each in _living(region)):
                raise Refusal("InvalidPlacementGroup.InUse", f"The placement group {name} is in use")
            del self.groups[region, name]
        return "<return>true</return>"

    # -- capacity reservations --------------------------------------------------
    def do_CreateCapacityReservation(self, region, fields, environ):
        made = {
            "capacityReservationId": self.number("cr"),
            "instanceType": fields["InstanceType"],
            "availabilityZone": fields["AvailabilityZone"],
            "totalInstanceCount": int(fields["InstanceCount"]),
            "availableInstanceCount": int(fields["InstanceCount"]),
            "state": "active",
            "instanceMatchCriteria": fields.get("InstanceMatchCriteria", "open"),
        }
        self.reservations[region, made["capacityReservationId"]] = made
        return f"<capacityReservation>{_xml(made)}</capacityReservation>"

    def do_DescribeCapacityReservations(self, region, fields, environ):
        found = [
            each for (where, _), each in sorted(self.reservations.items()) if where == region and _passes(each, fields)
        ]
        return "<capacityReservationSet>{}</capacityReservationSet>".format(
            "".join(f"<item>{_xml(each)}</item>" for each in found)
        )

    def do_CancelCapacityReservation(self, region, fields, environ):
        self.reservations.pop((region, fields["CapacityReservationId"]), None)
        return "<return>true</return>"

    # -- launches -----------------------------------------------------------------
    def do_RunInstances(self, region, fields, environ):
        """Once by its token, as EC2 promises; into the group and the reservation that it names."""
        token = fields.get("ClientToken")
        said = hashlib.sha256(json.dumps(sorted(fields.items())).encode()).hexdigest()
        with self.lock:
            if token and (region, token) in self.launched:
                before, answer = self.launched[region, token]
                if before != said:
                    raise Refusal(
                        "IdempotentParameterMismatch",
                        "Arguments on this idempotent request are inconsistent with "
                        "arguments used in previous request(s).",
                    )
                return answer
            group = fields.get("Placement.GroupName")
            if group and (region, group) not in self.groups:
                raise Refusal("InvalidPlacementGroup.Unknown", f"The placement group {group} is unknown")
            reservation = self.reserve(region, fields)
            _LAUNCHING.fields = fields
            heard = []
            parts = self.application(environ, lambda status, headers, *_: heard.extend((status, headers)))
            answer = heard[0], heard[1], b"".join(parts)
            if heard[0].startswith("200"):
                if token:
                    self.launched[region, token] = said, answer
                if reservation:
                    reservation["availableInstanceCount"] -= int(fields["MaxCount"])
            return answer

    def reserve(self, region, fields):
        id = fields.get("CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId")
        if not id:
            return None
        found = self.reservations.get((region, id))
        if found is None:
            raise Refusal("InvalidCapacityReservationId.NotFound", f"{id} is not known")
        if found["availableInstanceCount"] < int(fields["MaxCount"]):
            raise Refusal("ReservationCapacityExceeded", f"{id} has no room")
        return found

    def do_ModifyInstanceAttribute(self, region, fields, environ):
        if fields.get("Attribute") != "instanceInitiatedShutdownBehavior":
            heard = []
            parts = self.application(environ, lambda status, headers, *_: heard.extend((status, headers)))
            return heard[0], heard[1], b"".join(parts)
        for each in _living(region):
            if each.id == fields["InstanceId"]:
                each.instance_initiated_shutdown_behavior = fields["Value"]
                return "<return>true</return>"
        raise Refusal("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist".format(fields["InstanceId"]))

    # -- quotas ---------------------------------------------------------------------
    def quota(self, target, region, asked):
        key = region, asked.get("QuotaCode")
        if asked.get("ServiceCode") != "ec2":
            return None
        if target == "RequestServiceQuotaIncrease":
            self.quotas[key] = float(asked["DesiredValue"])
            return {"RequestedQuota": {"QuotaCode": key[1], "DesiredValue": self.quotas[key], "Status": "APPROVED"}}
        return {"Quota": {"QuotaCode": key[1], "Value": self.quotas[key]}} if key in self.quotas else None

    def number(self, kind):
        with self.lock:
            self.serial += 1
            return f"{kind}-{self.serial:017x}"


class Refusal(Exception):
    """Code and message."""


def _living(region):
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.ec2.models import ec2_backends

    reservations = ec2_backends[DEFAULT_ACCOUNT_ID][region].all_reservations()
    return [each for reservation in reservations for each in reservation.instances if each._state.name != "terminated"]


def _region(environ):
    found = re.search(r"Credential=[^/]+/\d+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    return found.group(1) if found else "us-east-1"


def _body(environ):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body.decode()


def _tags(fields, kind):
    made = {}
    for key, value in fields.items():
        found = re.match(r"(TagSpecification\.\d+)\.Tag\.(\d+)\.Key$", key)
        if found and fields.get(found.group(1) + ".ResourceType") == kind:
            made[value] = fields.get("{}.Tag.{}.Value".format(*found.groups()), "")
    return made


def _passes(item, fields):
    """The filters of a request: tags, and fields by their names with hyphens."""
    plain = {re.sub("([A-Z])", lambda found: "-" + found.group(1).lower(), key): value for key, value in item.items()}
    for key, name in fields.items():
        found = re.match(r"Filter\.(\d+)\.Name$", key)
        if found:
            values = [value for each, value in fields.items() if each.startswith(f"Filter.{found.group(1)}.Value.")]
            told = item.get("tagSet", {}).get(name[4:]) if name.startswith("tag:") else plain.get(name)
            if str(told) not in values:
                return False
    return True


def _xml(item):
    text = ""
    for key, value in item.items():
        told = value
        if isinstance(value, dict):
            told = "".join("<item><key>{}</key><value>{}</value></item>".format(*pair) for pair in value.items())
        text += f"<{key}>{told}</{key}>"
    return text


def _reply(start_response, status, kind, text):
    data = text.encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
    return [data]


def _refuse(start_response, code, message):
    text = (
        f"<?xml version='1.0'?><Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        "</Errors>"
        "<RequestID>testbed</RequestID></Response>"
    )
    return _reply(start_response, "400 Bad Request", "text/xml", text)
