"""The query protocol of IAM and STS: forms in, XML out, judged by botocore's service models."""

import re
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from .aws import Signed
from .model import service, validate

FORM_TYPE = "application/x-www-form-urlencoded; charset=utf-8"
REQUEST_ID = re.compile(r"[0-9a-f-]{36}")

# What every operation may answer besides its own modelled errors.
COMMON_ERRORS = {
    "AccessDenied": 403,
    "InvalidClientTokenId": 403,
    "SignatureDoesNotMatch": 403,
    "InvalidAction": 400,
    "MalformedInput": 400,
    "ValidationError": 400,
}


def form(value, prefix=""):
    """A structure as the pairs of a form: `Tags.member.1.Key=k`."""
    if isinstance(value, dict):
        return [pair for name, item in value.items() for pair in form(item, f"{prefix}.{name}" if prefix else name)]
    if isinstance(value, list):
        if not value:
            return [(prefix, "")]
        return [pair for i, item in enumerate(value, 1) for pair in form(item, f"{prefix}.member.{i}")]
    return [(prefix, str(value).lower() if isinstance(value, bool) else str(value))]


class Query:
    """One query service, called by hand and answered strictly."""

    def __init__(self, endpoint, account, name, token=None):
        self.name, self.model = name, service(name)
        self.namespace = f"{{https://{name}.amazonaws.com/doc/{self.model.api_version}/}}"
        self.signed = Signed(endpoint, account, service=name, token=token)

    def send(self, operation, parameters=None):
        pairs = [("Action", operation), ("Version", self.model.api_version), *form(parameters or {})]
        return self.signed.post(urlencode(pairs, quote_via=quote).encode(), {"Content-Type": FORM_TYPE})

    def call(self, operation, parameters=None):
        """A call that must succeed, and whose answer the model accepts without remark; answers its members."""
        answer = self.send(operation, parameters).expect(200)
        root = self._root(answer, f"{operation}Response")
        output = self.model.operation_model(operation).output_shape
        names = [element.tag for element in root]
        result = f"{self.namespace}{output.serialization['resultWrapper']}" if output is not None else None
        assert names == [*([result] if result else []), f"{self.namespace}ResponseMetadata"], f"{names}: {answer}"
        assert REQUEST_ID.fullmatch(root[-1].findtext(f"{self.namespace}RequestId") or ""), f"no request id: {answer}"
        if output is None:
            return {}
        body = self._read(output, root[0])
        wrong = validate(output, body)
        assert not wrong, f"{operation} departs from the {self.name} model:\n  " + "\n  ".join(wrong) + f"\n{answer}"
        return body

    def refused(self, operation, parameters, *codes):
        """A call that must be refused with a modelled or common error, one of `codes` when given; answers its message."""
        answer = self.send(operation, parameters)
        root = self._root(answer, "ErrorResponse")
        code, message = (root.findtext(f"{self.namespace}Error/{self.namespace}{name}") for name in ("Code", "Message"))
        own = self.model.operation_model(operation).error_shapes if operation in self.model.operation_names else []
        errors = {shape.metadata["error"]["code"]: shape.metadata["error"]["httpStatusCode"] for shape in own}
        statuses = COMMON_ERRORS | errors
        assert code in statuses, f"{operation} cannot answer {code}: {answer}"
        assert answer.status == statuses[code], f"{code} has another status: {answer}"
        assert not codes or code in codes, f"{operation} must answer {' or '.join(codes)}: {answer}"
        assert message is not None, f"no message: {answer}"
        return message

    def _root(self, answer, name):
        assert answer.headers["Content-Type"] == "text/xml", f"content type: {answer}"
        assert REQUEST_ID.fullmatch(answer.headers["x-amzn-RequestId"] or ""), f"no request id: {answer}"
        root = ElementTree.fromstring(answer.body)
        assert root.tag == f"{self.namespace}{name}", f"root element {root.tag}: {answer}"
        return root

    def _read(self, shape, element):
        """An element as the value its shape says; what the shape does not know stays, for the model to refuse."""
        kind, text = shape.type_name, element.text or ""
        if kind == "structure":
            members = {}
            for child in element:
                name = child.tag.removeprefix(self.namespace)
                assert name not in members, f"{name} twice in {shape.name}"
                members[name] = self._read(shape.members[name], child) if name in shape.members else text
            return members
        if kind == "list":
            assert all(child.tag == f"{self.namespace}member" for child in element), f"not only members in {shape.name}"
            return [self._read(shape.member, child) for child in element]
        if kind == "map":
            pairs = {}
            for child in element:
                tags = [part.tag for part in child]
                known = [f"{self.namespace}key", f"{self.namespace}value"]
                assert (child.tag, tags) == (f"{self.namespace}entry", known), f"not only entries in {shape.name}"
                key = self._read(shape.key, child[0])
                assert key not in pairs, f"{key} twice in {shape.name}"
                pairs[key] = self._read(shape.value, child[1])
            return pairs
        assert len(element) == 0, f"{shape.name} has elements inside"
        if kind == "timestamp":
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text), f"{text!r} is no time"
            return 1_700_000_000  # The form is what matters; validate() wants a number.
        if kind == "boolean":
            return {"true": True, "false": False}.get(text, text)
        if kind == "integer":
            return int(text)
        return text


def bad_inputs(model, operation, good):
    """Variations of a good input that the model forbids, as (what is wrong, parameters)."""
    shape = model.operation_model(operation).input_shape
    for name, member in (shape.members if shape is not None else {}).items():
        if name in shape.required_members:
            yield f"{name} is absent", {key: value for key, value in good.items() if key != name}
        for what, wrong in _bad(member):
            yield f"{name} {what}", {**good, name: wrong}


def _bad(shape):
    kind, low, high = shape.type_name, shape.metadata.get("min"), shape.metadata.get("max")
    if kind == "string":
        if shape.enum:
            yield "is outside its enum", "NO_SUCH_VALUE"
        if low:
            yield f"is shorter than {low}", "a" * (low - 1)
        if high:
            yield f"is longer than {high}", "/" + "a" * (high - 1) + "/"
        if shape.metadata.get("pattern"):
            yield "breaks its pattern", "No such!\u2603 \u0001"
        yield "is a list", ["x"]
    elif kind == "integer":
        yield f"is below {low}", low - 1
        yield f"is above {high}", high + 1
        yield "is beyond 64 bits", 10**30
        yield "is no number", "many"
    elif kind == "boolean":
        yield "is no boolean", "perhaps"
    elif kind == "list":
        yield "is no list", "text"
        if high and shape.member.type_name == "structure":
            yield f"has {high + 1} entries", [{"Key": f"k{i}", "Value": "v"} for i in range(high + 1)]
            for member in shape.member.required_members:
                yield f"has an entry without {member}", [{k: "x" for k in ("Key", "Value") if k != member}]
                for what, wrong in _bad(shape.member.members[member]):
                    yield f"has an entry whose {member} {what}", [{"Key": "x", "Value": "x", member: wrong}]
