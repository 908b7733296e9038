"""Botocore's service models as judges: is an answer exactly what the model promises, and what would it refuse?"""

import base64
import binascii
import copy
import json
import re
from functools import cache

import botocore.session

# The model gives ListImages and BatchDeleteImage one list shape of 1-100 entries; a page may be empty, or larger.
UNBOUNDED_IN_ANSWERS = {"ImageIdentifierList"}

# What every operation may answer besides its own modelled errors.
COMMON_ERRORS = {
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "IncompleteSignatureException",
    "SerializationException",
    "UnknownOperationException",
    "ValidationException",
    "InvalidParameterException",
    "NotImplementedException",
}


@cache
def service(name):
    return botocore.session.get_session().get_service_model(name)


@cache
def _pattern(text):
    # Java's letters, separators and numbers; Python has no such classes.
    return re.compile(text.replace(r"\p{L}\p{Z}\p{N}", r"\w\s"))


def validate(shape, value, path="$"):
    """Every way in which a JSON value departs from a model shape, in words; nothing when it fits."""
    if value is None:
        return [f"{path}: null, an absent member must be left out"]
    check = {"structure": _structure, "list": _list, "map": _map, "string": _string}.get(shape.type_name, _scalar)
    return check(shape, value, path)


def _structure(shape, value, path):
    if not isinstance(value, dict):
        return [f"{path}: {shape.name} must be an object, is {value!r}"]
    wrong = [f"{path}.{name}: not a member of {shape.name}" for name in value if name not in shape.members]
    wrong += [f"{path}.{name}: required by {shape.name}, absent" for name in shape.required_members if name not in value]
    for name, member in shape.members.items():
        if name in value:
            wrong += validate(member, value[name], f"{path}.{name}")
    return wrong


def _list(shape, value, path):
    if not isinstance(value, list):
        return [f"{path}: {shape.name} must be a list, is {value!r}"]
    wrong = [] if shape.name in UNBOUNDED_IN_ANSWERS else _bounds(shape, len(value), f"{path}: {shape.name} length")
    for i, item in enumerate(value):
        wrong += validate(shape.member, item, f"{path}[{i}]")
    return wrong


def _map(shape, value, path):
    if not isinstance(value, dict):
        return [f"{path}: {shape.name} must be an object, is {value!r}"]
    wrong = []
    for key, item in value.items():
        wrong += validate(shape.key, key, f"{path} key") + validate(shape.value, item, f"{path}[{key!r}]")
    return wrong


def _string(shape, value, path):
    if not isinstance(value, str):
        return [f"{path}: {shape.name} must be a string, is {value!r}"]
    wrong = _bounds(shape, len(value), f"{path}: {shape.name} length")
    if shape.enum and value not in shape.enum:
        wrong.append(f"{path}: {value!r} is not one of {shape.enum}")
    pattern = shape.metadata.get("pattern")
    if pattern and not _pattern(pattern).fullmatch(value):
        wrong.append(f"{path}: {value!r} does not match {pattern}")
    return wrong


def _scalar(shape, value, path):
    kind = shape.type_name
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in ("integer", "long"):
        if not number or not isinstance(value, int):
            return [f"{path}: {shape.name} must be an integer, is {value!r}"]
        return _bounds(shape, value, f"{path}: {shape.name}")
    if kind in ("float", "double"):
        return [] if number else [f"{path}: {shape.name} must be a number, is {value!r}"]
    if kind == "timestamp":
        if not number:
            return [f"{path}: a timestamp is a JSON number of seconds, is {value!r}"]
        # ECR gives the epoch as the time of a policy that was never evaluated.
        never = value == 0 and path.endswith(".lastEvaluatedAt")
        plausible = never or 1_500_000_000 < value < 4_000_000_000
        return [] if plausible else [f"{path}: {value!r} is not a time of this century in seconds"]
    if kind == "boolean":
        return [] if isinstance(value, bool) else [f"{path}: {shape.name} must be true or false, is {value!r}"]
    if kind == "blob":
        try:
            base64.b64decode(value, validate=True)
            return []
        except (TypeError, ValueError, binascii.Error):
            return [f"{path}: {shape.name} must be base64, is {value!r}"]
    return [f"{path}: no rule for shape type {kind}"]


def _bounds(shape, size, what):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        return [f"{what} {size} is below {low}"]
    if high is not None and size > high:
        return [f"{what} {size} is above {high}"]
    return []


# ---------------------------------------------------------------- answers


def expect_success(answer, service_name, operation):
    """A 200 whose raw body the model accepts without remark; answers the parsed body."""
    answer.expect(200)
    assert answer.headers["Content-Type"] == "application/x-amz-json-1.1", f"content type of {operation}: {answer}"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-amzn-RequestId"] or ""), f"no request id: {answer}"
    shape = service(service_name).operation_model(operation).output_shape
    body = json.loads(answer.body) if answer.body else {}
    wrong = validate(shape, body) if shape is not None else ([f"$: no output expected, got {body}"] if body else [])
    assert not wrong, f"{operation} departs from the {service_name} model:\n  " + "\n  ".join(wrong) + f"\n{answer}"
    return body


def expect_error(answer, service_name, operation, *codes):
    """A modelled or common error; one of `codes` when given. Answers the parsed body."""
    model = service(service_name)
    assert answer.status == 400, f"a bad request is answered with 400: {answer}"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-amzn-RequestId"] or ""), f"no request id: {answer}"
    assert answer.headers["Content-Type"] == "application/x-amz-json-1.1", f"content type of an error: {answer}"
    body = answer.json
    assert isinstance(body, dict) and isinstance(body.get("__type"), str), f"an error needs a __type: {answer}"
    code = body["__type"].split("#")[-1]
    own = model.operation_model(operation).error_shapes if operation in model.operation_names else []
    modelled = {shape.error_code: shape for shape in own} | {shape.name: shape for shape in own}
    assert code in modelled or code in COMMON_ERRORS, f"{operation} cannot answer {code}: {answer}"
    if codes:
        assert code in codes, f"{operation} must answer {' or '.join(codes)}: {answer}"
    if code in modelled:
        members = {name: value for name, value in body.items() if name != "__type"}
        wrong = validate(modelled[code], members)
        assert not wrong, f"error {code} departs from the model:\n  " + "\n  ".join(wrong) + f"\n{answer}"
    return body


# ---------------------------------------------------------------- inputs


def smallest_input(shape, overrides=None):
    """An input with the required members only, each within its constraints."""
    return {name: _smallest(shape.members[name], name) for name in shape.required_members} | (overrides or {})


# Values for patterns that cannot be guessed from their bounds.
SAMPLES = {
    "RepositoryName": "team/app",
    "RegistryId": "123456789012",
    "Region": "us-west-2",
    "PrincipalArn": "arn:aws:iam::123456789012:role/scanner",
    "LayerDigest": "sha256:" + "0" * 64,
    "UploadId": "00000000-0000-4000-8000-000000000000",
    "ReplicationBackfillId": "00000000-0000-4000-8000-000000000000",
    "Prefix": "cache",
    "PullThroughCacheRuleRepositoryPrefix": "cache",
    "SigningProfileArn": "arn:aws:signer:us-east-1:123456789012:/signing-profiles/release",
    "SigningRepositoryFilterValue": "team/*",
    "ScanningRepositoryFilterValue": "team*",
    "RepositoryFilterValue": "team",
    "ImageTagMutabilityExclusionFilterValue": "dev-*",
    "LifecyclePolicyText": json.dumps(
        {
            "rules": [
                {
                    "rulePriority": 1,
                    "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 5},
                    "action": {"type": "expire"},
                }
            ]
        }
    ),
}


def _smallest(shape, name):
    if shape.name in SAMPLES:
        return SAMPLES[shape.name]
    kind = shape.type_name
    if kind == "structure":
        return smallest_input(shape)
    if kind == "list":
        return [_smallest(shape.member, name) for _ in range(shape.metadata.get("min", 0) or 1)]
    if kind == "map":
        return {}
    if kind == "string":
        return shape.enum[0] if shape.enum else "x" * max(1, shape.metadata.get("min", 1))
    if kind in ("integer", "long"):
        return shape.metadata.get("min", 1)
    return {"boolean": True, "timestamp": 1_700_000_000, "blob": "eA=="}[kind]


WRONG_TYPES = {
    "structure": ["text", 7, [], True],
    "list": ["text", 7, {}, True],
    "map": ["text", 7, [], True],
    "string": [[], {}, ["x"]],
    "integer": ["text", [], {}, True],
    "long": ["text", [], {}, True],
    "boolean": ["text", [], {}],
    "blob": [[], {}],
    "timestamp": [[], {}],
}


def bad_inputs(shape, good):
    """Variations of a good input that the model forbids, as (what is wrong, input)."""
    yield from _bad(shape, good, "input", lambda changed: changed)


def _bad(shape, value, path, rebuild):
    kind = shape.type_name
    if path != "input":
        for wrong in WRONG_TYPES.get(kind, []):
            yield f"{path} is {json.dumps(wrong)}, not a {kind}", rebuild(wrong)
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if kind == "structure":
        for name in shape.required_members:
            if name in value:
                yield f"{path}.{name} is absent", rebuild({k: v for k, v in value.items() if k != name})
        for name, member in shape.members.items():
            present = value[name] if name in value else _smallest(member, name)
            yield from _bad(member, present, f"{path}.{name}", _within_object(rebuild, value, name))
    elif kind == "list":
        if low:
            yield f"{path} is empty, {low} is the least", rebuild([])
        if high is not None and value:
            yield f"{path} has {high + 1} entries, {high} is the most", rebuild((value * (high + 1))[: high + 1])
        if value:
            yield from _bad(shape.member, value[0], f"{path}[0]", _within_list(rebuild, value))
    elif kind == "string":
        if shape.enum:
            yield f"{path} is outside its enum", rebuild("NO_SUCH_VALUE")
        if low:
            yield f"{path} is shorter than {low}", rebuild("")
        if high is not None:
            yield f"{path} is longer than {high}", rebuild("a" * (high + 1))
        if shape.metadata.get("pattern"):
            yield f"{path} breaks its pattern", rebuild("No such!\u0001 \u00fc")
    elif kind in ("integer", "long"):
        if low is not None:
            yield f"{path} is below {low}", rebuild(low - 1)
        if high is not None:
            yield f"{path} is above {high}", rebuild(high + 1)
        yield f"{path} is beyond 64 bits", rebuild(10**30)


def _within_object(rebuild, value, name):
    return lambda changed: rebuild({**copy.deepcopy(value), name: changed})


def _within_list(rebuild, value):
    return lambda changed: rebuild([changed, *copy.deepcopy(value[1:])])
