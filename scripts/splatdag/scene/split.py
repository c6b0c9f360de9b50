"""Split of a scene's photos into those to train on and those to hold out."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath

from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.small_file import read_small

_SHOWN = 8
"""Names or words that a message lists at most."""


def list_file(split: str, data_dir: Path) -> Path | None:
    """Return the file that lists the held-out photos; None where the option names none."""
    return None if split in ("test_every", "all") else data_dir / split


def split_photos(
    names: list[str],
    *,
    split: str,
    test_every: int,
    match_string: str | None,
    eval_match_string: str | None,
    data_dir: Path,
    where: str = "train",
) -> tuple[list[str], list[str]]:
    """Return the names of the photos to train on, and of those that are held out for evaluation.

    The split is made over all photos first, then each side keeps the photos with its word, as simple_trainer's
    fork does: a photo keeps its side whatever the words are.

    Args:
        names: of all posed photos, sorted.
        split: `test_every`, `all`, or a file with the names of the held-out photos.
        test_every: photo i is held out where i % test_every == 0; 1 is `all`, where both sides are all photos.
        match_string: train on photos with this word; None or empty: on all.
        eval_match_string: evaluate on photos with this word; None: as `match_string`; empty: on all held out.
        data_dir: what the path of a list file is relative to.
        where: what a message names, such as `line 3: dog: train`.

    Raises:
        UserError: a word or a listed name that no photo has, or a side that stays empty.
    """
    file = list_file(split, data_dir)
    if file is not None:
        listed = _listed_names(file, names, f"{where}.split")
        train = [name for name in names if name not in listed]
        held_out, made_by = [name for name in names if name in listed], f"split {split}"
    elif split == "all" or test_every == 1:
        train, held_out, made_by = names, names, ""
    else:
        train = [name for index, name in enumerate(names) if index % test_every]
        held_out, made_by = names[::test_every], f"test_every {test_every}"
    if not train:
        raise _none_to_train_on(where, made_by, len(names))
    words = (match_string, match_string if eval_match_string is None else eval_match_string)
    matched = (
        matching(names, words[0], f"{where}.match_string"),
        matching(names, words[1], f"{where}.eval_match_string"),
    )
    kept_train, kept_held_out = _both(train, matched[0]), _both(held_out, matched[1])
    if not kept_train:
        raise UserError(
            f"{where}.match_string: all {len(matched[0])} photos with {words[0]!r} are held out by {made_by},"
            f" such as {matched[0][0]}; hold out fewer (test_every), or use `split: all`"
        )
    if not kept_held_out:
        raise UserError(
            f"{where}.{'match_string' if eval_match_string is None else 'eval_match_string'}: none of the"
            f" {len(held_out)} photos held out by {made_by} has {words[1]!r}; lower test_every, list held-out photos in"
            ' a file (split), or evaluate on all that are held out with eval_match_string: ""'
        )
    return kept_train, kept_held_out


def check_split(
    names: list[str],
    *,
    split: str,
    match_string: str | None,
    eval_match_string: str | None,
    data_dir: Path,
    where: str,
) -> None:
    """Refuse, before the photos are posed, a split that `split_photos` will refuse; arguments are the same.

    Raises:
        UserError: a word or a listed name that no photo has, or a list of all photos.
    """
    matching(names, match_string, f"{where}.match_string")
    matching(names, eval_match_string, f"{where}.eval_match_string")
    file = list_file(split, data_dir)
    if file is not None:
        listed = _listed_names(file, names, f"{where}.split")
        if len(listed) == len(names):
            raise _none_to_train_on(where, f"split {split}", len(names))


def _none_to_train_on(where: str, made_by: str, count: int) -> UserError:
    return UserError(
        f"{where}: {made_by or 'this split'} leaves none of {count} photos to train on;"
        " hold out fewer, or train and evaluate on the same photos with `split: all`"
    )


def _both(names: list[str], matched: list[str]) -> list[str]:
    chosen = set(matched)
    return [name for name in names if name in chosen]


def matching(names: list[str], word: str | None, where: str) -> list[str]:
    """Return the names with `word` in them, in any case, no letter or digit directly before or after it.

    Raises:
        UserError: no name has it; words that are there are listed.
    """
    if not word:
        return list(names)
    pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", re.IGNORECASE)
    found = [name for name in names if pattern.search(name)]
    if not found:
        raise UserError(f"{where}: no photo has the word {word!r} in its name{_known_words(names, word)}")
    return found


def _known_words(names: list[str], word: str) -> str:
    """Return the hint that ends a message about a word that no name has."""
    counts = Counter(
        part for name in names for part in set(re.findall(r"[A-Za-z0-9]+", str(PurePosixPath(name).with_suffix(""))))
    )
    telling = [part for part, count in counts.most_common() if count < len(names) and not part.isdigit()]
    if hint := nearest(word, telling) if telling else "":
        return hint
    shown = telling or names
    more = " …" if len(shown) > _SHOWN else ""
    return f"; {'words' if telling else 'photos'} that are there: {', '.join(shown[:_SHOWN])}{more}"


def _listed_names(path: Path, names: list[str], where: str) -> set[str]:
    """Read the names of photos in a list file, written with or without suffix."""
    entries = _entries(path, where)
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
    known, found, unknown = set(names), set(), []
    for entry in entries:
        same = by_stem.get(entry, [])
        if entry in known:
            found.add(entry)
        elif len(same) == 1:
            found.add(same[0])
        elif same:
            raise UserError(f"{where}: {path}: {entry!r} may be {' or '.join(same)}; write the suffix too")
        else:
            unknown.append(entry)
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise UserError(
            f"{where}: {path} lists {', '.join(unknown[:_SHOWN])}{more}, but there is no such"
            f" photo{nearest(unknown[0], names)}"
        )
    return found


def _entries(path: Path, where: str) -> list[str]:
    try:
        lines = [line.strip() for line in read_small(path).decode("utf-8-sig").splitlines()]
    except OSError as error:
        raise UserError(
            f"{where}: {path}: {error.strerror}; give test_every, all, or a file that lists the held-out photos"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{where}: {path}: not a text file in UTF-8") from None
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise UserError(f"{where}: {path} lists no photo; one name per line is expected")
    return entries
