"""Recommendation lists as JSON, written by one pass over arrays; and which lists differ from the ones before.

`write_lists` is the compiled twin of `consumer.lists.recommendations_of` and `producer.events.encode`: decoded, what it
writes is the same message (numbers are written in another form: 0.000001 for 1e-6). Ids are looked up in vocabularies
as `model.vocabulary` keeps them: UTF-8 end to end in a blob, and where the id of each row begins and how long it is.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.kernels.compiled import compiled, compiled_with_arrays

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

MOST_SCORE: Final = 2.0**43
"""Scores from here on, of either sign, do not fit the fixed-point writer: 64 bits of millionths."""
DECIMALS: Final = 6
_MILLION: Final = 10**DECIMALS
_FIXED_BYTES: Final = 512
"""More than what `write_lists` writes around the ids and the items of a message: names, punctuation, seven numbers."""
_ITEM_BYTES: Final = 56
"""More than what it writes around the id of an item: `{"item_id":"","score":-8796093022207.000000},` has 45."""
_MOST_ESCAPED: Final = 6
"""Bytes that a byte of an id may take: \\u001f."""


def _bytes(text: str) -> Bytes:
    return np.frombuffer(text.encode(), dtype=np.uint8).copy()


_USER: Final = _bytes('{"user_id":"')
_ID: Final = _bytes('","recommendation_id":"')
_GENERATED: Final = _bytes('","generated_at":')
_VERSION: Final = _bytes(',"model_version":')
_SOURCE: Final = _bytes(',"source":{"topic":')
_PARTITION: Final = _bytes(',"partition":')
_OFFSET: Final = _bytes(',"offset":')
_TIMESTAMP: Final = _bytes(',"timestamp":')
_ITEMS: Final = _bytes('},"items":[')
_ITEM: Final = _bytes('{"item_id":"')
_SCORE: Final = _bytes('","score":')
_HEX: Final = _bytes("0123456789abcdef")
_THREE_DIGITS: Final = _bytes("".join(f"{number:03}" for number in range(1000))).reshape(1000, 3)

_SHA256_START: Final = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], dtype=np.int64
)
_SHA256_ROUNDS: Final = np.array(
    [
        0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
        0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
        0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
        0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
        0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
        0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
        0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
        0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
    ],
    dtype=np.int64,
)  # fmt: skip
_WORD: Final = 0xFFFFFFFF


@compiled
def replace_lists(
    users_U: Ints,
    codes_UK: NDArray[np.int32],
    lengths_U: NDArray[np.int32],
    last_RK: NDArray[np.int32],
    last_length_R: NDArray[np.int32],
    changed_U: NDArray[np.bool_],
) -> None:
    """Put each list in the place of its user's last one; `changed_U`: whether the two differed.

    `last_RK` is as wide as the longest list. -1 in `last_length_R`: the user had none.
    """
    for one in range(len(users_U)):
        user, length = users_U[one], lengths_U[one]
        changed = last_length_R[user] != length
        last_length_R[user] = length
        for place in range(length):
            code = codes_UK[one, place]
            if last_RK[user, place] != code:
                changed = True
                last_RK[user, place] = code
        changed_U[one] = changed


@compiled
def find_coded(
    last_RK: NDArray[np.int32],
    last_length_R: NDArray[np.int32],
    is_one_X: NDArray[np.bool_],
    names_R: NDArray[np.bool_],
) -> None:
    """Which lists have a code below 0 of which -1 - code is marked; `names_R` is False at first."""
    for row in range(len(last_length_R)):
        for column in range(last_length_R[row]):
            cold = -1 - last_RK[row, column]
            if 0 <= cold < len(is_one_X) and is_one_X[cold]:
                names_R[row] = True


@compiled
def unpack_lists(packed: NDArray[np.int32], last_RK: NDArray[np.int32], last_length_R: NDArray[np.int32]) -> None:
    """The codes of lists that lie end to end, in the order of the rows, to their rows."""
    place = 0
    for row in range(len(last_length_R)):
        for column in range(last_length_R[row]):
            last_RK[row, column] = packed[place]
            place += 1


# Where a kernel writes, it takes the rest of the buffer as an array of its own: of an index that counts up from 0 the
# compiler knows that it is not negative (Python's indices from the end), and copies whole words.


@compiled
def _put(out: Bytes, at: int, text: Bytes) -> int:
    room = out[at:]
    for place in range(len(text)):
        room[place] = text[place]
    return at + len(text)


@compiled
def _put_slice(out: Bytes, at: int, blob: Bytes, start: int, length: int) -> int:
    room, text = out[at:], blob[start:]
    for place in range(length):
        room[place] = text[place]
    return at + length


@compiled
def _put_escaped(out: Bytes, at: int, blob: Bytes, start: int, length: int) -> int:
    """The inside of a JSON string: quotes, backslashes and control characters escaped, UTF-8 as it is."""
    room, text = out[at:], blob[start:]
    written = 0
    for place in range(length):
        byte = text[place]
        if byte < 0x20:
            room[written] = 0x5C
            room[written + 1] = 0x75  # u
            room[written + 2] = 0x30
            room[written + 3] = 0x30
            room[written + 4] = _HEX[byte >> 4]
            room[written + 5] = _HEX[byte & 15]
            written += 6
        else:
            if byte == 0x22 or byte == 0x5C:
                room[written] = 0x5C
                written += 1
            room[written] = byte
            written += 1
    return at + written


@compiled
def _put_int(out: Bytes, at: int, number: int) -> int:
    if number < 0:
        out[at] = 0x2D
        at += 1
        number = -number
    digits = 1
    limit = 10
    while digits < 19 and number >= limit:
        digits += 1
        limit *= 10
    room = out[at:]
    for place in range(digits):
        rest = number // 10
        room[digits - 1 - place] = 0x30 + number - 10 * rest
        number = rest
    return at + digits


@compiled
def _put_score(out: Bytes, at: int, score: float) -> int:
    """Rounded to six decimals, as Python's `round` does, at least one of them written.

    A float32 times a million is exact in a float64, so that the rounding here is of the score itself.
    """
    millionths = int(np.rint(np.float64(score) * 1e6))
    if millionths < 0:
        out[at] = 0x2D
        at += 1
        millionths = -millionths
    whole = millionths // _MILLION
    rest = millionths - whole * _MILLION
    if whole < 10:
        out[at] = 0x30 + whole
        at += 1
    else:
        at = _put_int(out, at, whole)
    room = out[at : at + 1 + DECIMALS]
    room[0] = 0x2E
    thousands = rest // 1000
    left, right = _THREE_DIGITS[thousands], _THREE_DIGITS[rest - 1000 * thousands]
    for place in range(3):
        room[1 + place] = left[place]
        room[4 + place] = right[place]
    length = 1 + DECIMALS
    while length > 2 and room[length - 1] == 0x30:
        length -= 1
    return at + length


@compiled
def _rotated(word: int, by: int) -> int:
    return ((word >> by) | (word << (32 - by))) & _WORD


@compiled
def _mix_block(state: Ints, words: Ints, block: Bytes) -> None:
    """One block of 64 bytes into the state of SHA-256 (FIPS 180-4, 6.2.2)."""
    for place in range(16):
        word = 0
        for byte in range(4):
            word = (word << 8) | int(block[4 * place + byte])
        words[place] = word
    for place in range(16, 64):
        early, late = words[place - 15], words[place - 2]
        small_0 = _rotated(early, 7) ^ _rotated(early, 18) ^ (early >> 3)
        small_1 = _rotated(late, 17) ^ _rotated(late, 19) ^ (late >> 10)
        words[place] = (words[place - 16] + small_0 + words[place - 7] + small_1) & _WORD
    a, b, c, d = state[0], state[1], state[2], state[3]
    e, f, g, h = state[4], state[5], state[6], state[7]
    for place in range(64):
        big_1 = _rotated(e, 6) ^ _rotated(e, 11) ^ _rotated(e, 25)
        first = h + big_1 + ((e & f) ^ (~e & g & _WORD)) + _SHA256_ROUNDS[place] + words[place]
        big_0 = _rotated(a, 2) ^ _rotated(a, 13) ^ _rotated(a, 22)
        second = big_0 + ((a & b) ^ (a & c) ^ (b & c))
        h, g, f, e = g, f, e, (d + first) & _WORD
        d, c, b, a = c, b, a, (first + second) & _WORD
    state[0] = (state[0] + a) & _WORD
    state[1] = (state[1] + b) & _WORD
    state[2] = (state[2] + c) & _WORD
    state[3] = (state[3] + d) & _WORD
    state[4] = (state[4] + e) & _WORD
    state[5] = (state[5] + f) & _WORD
    state[6] = (state[6] + g) & _WORD
    state[7] = (state[7] + h) & _WORD


@compiled
def _put_sha256(out: Bytes, at: int, text: Bytes, length: int, state: Ints, words: Ints) -> int:
    """The first 32 hexadecimal digits of the SHA-256 of `text[:length]`, which is padded in place (FIPS 180-4, 5.1.1).

    `text` has room for 72 more bytes; `state` (8) and `words` (64) are for use here.
    """
    blocks = (length + 9 + 63) // 64
    text[length] = 0x80
    for place in range(length + 1, 64 * blocks):
        text[place] = 0
    for place in range(8):
        text[64 * blocks - 1 - place] = ((8 * length) >> (8 * place)) & 0xFF
    for place in range(8):
        state[place] = _SHA256_START[place]
    for block in range(blocks):
        _mix_block(state, words, text[64 * block : 64 * block + 64])
    for place in range(4):
        for nibble in range(8):
            out[at + nibble] = _HEX[(state[place] >> (28 - 4 * nibble)) & 15]
        at += 8
    return at


@compiled_with_arrays
def sha256_32(text: Bytes, length: int, out: Bytes) -> None:
    """The first 32 hexadecimal digits of a SHA-256 into `out`: for the test against `hashlib`."""
    _put_sha256(out, 0, text, length, np.empty(8, dtype=np.int64), np.empty(64, dtype=np.int64))


@compiled_with_arrays
def write_lists(
    first: int,
    lists_N: Ints,
    users_U: Ints,
    codes_UK: NDArray[np.int32],
    lengths_U: NDArray[np.int32],
    scores_UK: NDArray[np.float32],
    partition_U: Ints,
    offset_U: Ints,
    timestamp_U: Ints,
    model_version: int,
    generated_at: int,
    topic: Bytes,
    topic_json: Bytes,
    user_blob: Bytes,
    user_start_R: Ints,
    user_length_R: NDArray[np.int32],
    item_blob: Bytes,
    item_start_I: Ints,
    item_length_I: NDArray[np.int32],
    cold_blob: Bytes,
    cold_start_X: Ints,
    cold_length_X: NDArray[np.int32],
    out: Bytes,
    bounds: Ints,
) -> int:
    """Write the lists `lists_N[first:]` into `out`, as long as they fit: key, value, key, value, ... end to end.

    A key is the user's id. Of a list with number n in `lists_N` the key begins at `bounds[2 * (n - first)]` and the
    value at the place after it; `bounds` ends with the end of the last value, and has room for 2 N + 1 numbers.
    Codes below 0 are items of the catalogue (`model.content.cold_code`). `topic_json` has its quotes. Scores are below
    MOST_SCORE. Returns how many were written.
    """
    state, words = np.empty(8, dtype=np.int64), np.empty(64, dtype=np.int64)
    longest = 0
    for number in range(first, len(lists_N)):
        longest = max(longest, user_length_R[users_U[lists_N[number]]])
    named = np.empty(len(topic) + longest + 4 * 21 + 72, dtype=np.uint8)
    at = 0
    for number in range(first, len(lists_N)):
        one = lists_N[number]
        user = users_U[one]
        user_start, user_length = user_start_R[user], user_length_R[user]
        needed = _FIXED_BYTES + len(topic_json) + (_MOST_ESCAPED + 1) * user_length
        for place in range(lengths_U[one]):
            code = codes_UK[one, place]
            length = item_length_I[code] if code >= 0 else cold_length_X[-1 - code]
            needed += _ITEM_BYTES + _MOST_ESCAPED * length
        if at + needed > len(out):
            return number - first
        bounds[2 * (number - first)] = at
        at = _put_slice(out, at, user_blob, user_start, user_length)
        bounds[2 * (number - first) + 1] = at

        text = _put(named, 0, topic)
        named[text] = 0
        text = _put_int(named, text + 1, partition_U[one])
        named[text] = 0
        text = _put_int(named, text + 1, offset_U[one])
        named[text] = 0
        text = _put_slice(named, text + 1, user_blob, user_start, user_length)
        named[text] = 0
        text = _put_int(named, text + 1, model_version)

        at = _put(out, at, _USER)
        at = _put_escaped(out, at, user_blob, user_start, user_length)
        at = _put(out, at, _ID)
        at = _put_sha256(out, at, named, text, state, words)
        at = _put(out, at, _GENERATED)
        at = _put_int(out, at, generated_at)
        at = _put(out, at, _VERSION)
        at = _put_int(out, at, model_version)
        at = _put(out, at, _SOURCE)
        at = _put(out, at, topic_json)
        at = _put(out, at, _PARTITION)
        at = _put_int(out, at, partition_U[one])
        at = _put(out, at, _OFFSET)
        at = _put_int(out, at, offset_U[one])
        at = _put(out, at, _TIMESTAMP)
        at = _put_int(out, at, timestamp_U[one])
        at = _put(out, at, _ITEMS)
        for place in range(lengths_U[one]):
            code = codes_UK[one, place]
            if place > 0:
                out[at] = 0x2C
                at += 1
            at = _put(out, at, _ITEM)
            if code >= 0:
                at = _put_escaped(out, at, item_blob, item_start_I[code], item_length_I[code])
            else:
                row = -1 - code
                at = _put_escaped(out, at, cold_blob, cold_start_X[row], cold_length_X[row])
            at = _put(out, at, _SCORE)
            at = _put_score(out, at, scores_UK[one, place])
            out[at] = 0x7D
            at += 1
        out[at] = 0x5D
        out[at + 1] = 0x7D
        at += 2
        bounds[2 * (number - first) + 2] = at
    return len(lists_N) - first
