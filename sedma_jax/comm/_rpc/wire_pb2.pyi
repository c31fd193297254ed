from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Header(_message.Message):
    __slots__ = ("kind", "method", "deadline_ms", "meta", "error")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REQUEST: _ClassVar[Header.Kind]
        RESPONSE: _ClassVar[Header.Kind]
        DATA: _ClassVar[Header.Kind]
        END: _ClassVar[Header.Kind]
        ERROR: _ClassVar[Header.Kind]
    REQUEST: Header.Kind
    RESPONSE: Header.Kind
    DATA: Header.Kind
    END: Header.Kind
    ERROR: Header.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    kind: Header.Kind
    method: str
    deadline_ms: int
    meta: bytes
    error: str
    def __init__(self, kind: _Optional[_Union[Header.Kind, str]] = ..., method: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., meta: _Optional[bytes] = ..., error: _Optional[str] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("dtype", "shape", "nbytes", "chunk", "sha256")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    NBYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    nbytes: int
    chunk: int
    sha256: bytes
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., nbytes: _Optional[int] = ..., chunk: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("cid", "offset", "length")
    CID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    cid: bytes
    offset: int
    length: int
    def __init__(self, cid: _Optional[bytes] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Keep(_message.Message):
    __slots__ = ("cid", "holders", "wanted")
    CID_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    cid: bytes
    holders: _containers.RepeatedScalarFieldContainer[str]
    wanted: int
    def __init__(self, cid: _Optional[bytes] = ..., holders: _Optional[_Iterable[str]] = ..., wanted: _Optional[int] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("peer", "sequence", "idle", "memory_free", "load", "zone", "addresses")
    PEER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FREE_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    peer: bytes
    sequence: int
    idle: float
    memory_free: int
    load: float
    zone: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, peer: _Optional[bytes] = ..., sequence: _Optional[int] = ..., idle: _Optional[float] = ..., memory_free: _Optional[int] = ..., load: _Optional[float] = ..., zone: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class SignedStatus(_message.Message):
    __slots__ = ("status", "public_key", "signature")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    status: bytes
    public_key: bytes
    signature: bytes
    def __init__(self, status: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Statuses(_message.Message):
    __slots__ = ("statuses",)
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    statuses: _containers.RepeatedCompositeFieldContainer[SignedStatus]
    def __init__(self, statuses: _Optional[_Iterable[_Union[SignedStatus, _Mapping]]] = ...) -> None: ...
