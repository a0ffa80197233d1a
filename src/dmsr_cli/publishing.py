"""Weight files to the Hub: checked, with a model card, and with their entries for weights.toml."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsr_cli import hub
from dmsr_cli.config import DMSRConfig, from_mapping
from dmsr_cli.errors import SettingsError, WeightsError
from dmsr_cli.files import display_name
from dmsr_cli.hub.connection import endpoint
from dmsr_cli.hub.explaining import explained
from dmsr_cli.model_card import CardModel, card_text
from dmsr_cli.model_facts import ModelFacts, read_facts
from dmsr_cli.scores import Score, psnr_by_test
from dmsr_cli.weights import file_sha256, load_weights, resolve_model
from dmsr_cli.weights_table import ModelEntry, read_weights_table

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

UNKNOWN_LICENSE = "unknown"
"""In weights.toml, where nobody said what the licence is."""
CARD = "README.md"
_OURS = "library_name: dmsr-cli"
"""In the head of a card that was made here, and may be made anew."""


@dataclass(frozen=True)
class Upload:
    """A weight file that is to be pushed; the entry's revision is that of the branch."""

    path: Path
    entry: ModelEntry
    scores: tuple[Score, ...] = ()
    """Measured by whoever pushes; for the card, where nothing else is known."""


@dataclass(frozen=True)
class Pushed:
    """What a push has done."""

    entries: list[ModelEntry]
    """For weights.toml, with the commit as their revision."""
    url: str
    """Of the commit."""
    card_was_kept: bool
    """The README of the repository is not from here, and was left as it was."""


def prepare(
    spec: str,
    repo: str,
    *,
    name: str | None = None,
    license: str | None = None,
    revision: str = "main",
    scores: Sequence[Score] = (),
) -> Upload:
    """Look at a model that is to be pushed; it is loaded as a whole, so that it works elsewhere.

    Args:
        spec: a weight file, or a name of weights.toml.
        repo: "owner/name".
        name: what it shall be called, with or without its scale at the end; None for the name of
            the file.
        license: of the weights; None for that in weights.toml, if it is there.
        revision: the branch to push to.
        scores: of this model; those of another scale are left out.

    Raises:
        SettingsError: the name or the repository's name is impossible.
        WeightsError: the file is missing or damaged.
    """
    if not hub.REPOSITORY_PATTERN.fullmatch(repo):
        raise SettingsError(f"--repo must be of the form owner/name, not {repo!r}")
    weights = resolve_model(spec)
    network = load_weights(weights.path, weights.sha256)
    config = network.config
    sha256 = file_sha256(weights.path)
    known = next((entry for entry in _table() if entry.sha256 == sha256), None)
    wanted = name or (known.name if known else Path(weights.name).stem)
    full_name = wanted if wanted.endswith(f"-x{config.scale}") else f"{wanted}-x{config.scale}"
    if not re.fullmatch(r"[\w][\w.-]*", full_name, re.ASCII):
        raise SettingsError(
            f"{display_name(full_name)!r} cannot be a model's name: use letters, digits, '-', '_' "
            "and '.', with --name"
        )
    measured = tuple(score for score in scores if score.scale == config.scale)
    entry = ModelEntry(
        name=full_name,
        repo=repo,
        file=f"{full_name}.safetensors",
        revision=revision,
        sha256=sha256,
        size=weights.path.stat().st_size,
        scale=config.scale,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        license=license or (known.license if known else UNKNOWN_LICENSE),
        config=config,
        psnr=known.psnr if known else psnr_by_test(measured),
    )
    return Upload(weights.path, entry, measured)


def check_names(uploads: Sequence[Upload]) -> None:
    """Raise SettingsError if two uploads have the same name."""
    names = [upload.entry.file for upload in uploads]
    if len(set(names)) < len(names):
        raise SettingsError("two of the models would have the same name; give each one a --name")


def push(
    uploads: Sequence[Upload],
    repo: str,
    *,
    revision: str = "main",
    private: bool | None = None,
    overwrite: bool = False,
    token: str | None = None,
    message: str | None = None,
) -> Pushed:
    """Put weight files and the card of all models that are then there on the Hub, in one commit.

    The repository and the branch are made if they are missing.

    Args:
        uploads: from `prepare`, for this repository.
        repo: "owner/name".
        revision: the branch.
        private: whether a repository that is made is private; None for what the owner's setting is.
        overwrite: replace files that are there with another content.
        token: instead of HF_TOKEN.
        message: of the commit.

    Raises:
        SettingsError: two uploads have the same name.
        WeightsError: requests are forbidden, there is no token, a file is there with another
            content, or the Hub refuses.
    """
    check_names(uploads)
    where = hub.HubFile(repo, None, revision)
    token = _checked_token(where, token)
    with explained(where, writing=True):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(endpoint=endpoint(), token=token)
        api.create_repo(repo, private=private, exist_ok=True)
        if revision != "main":
            api.create_branch(repo, branch=revision, exist_ok=True)
        parent = str(api.repo_info(repo, revision=revision).sha)
        there = _files_there(api, where)
        if not overwrite:
            _refuse_different(uploads, there, where)
        additions = {upload.entry.file: str(upload.path) for upload in uploads}
        operations = [CommitOperationAdd(name, path) for name, path in additions.items()]
        keeps_card = CARD in there and not overwrite and not _is_our_card(api, where)
        if not keeps_card:
            models = _all_models(uploads, there, api, where)
            content = card_text(models, repo).encode()
            operations.append(CommitOperationAdd(CARD, content))
        commit = api.create_commit(
            repo,
            operations,
            commit_message=message or f"Add {', '.join(upload.entry.name for upload in uploads)}",
            revision=revision,
            parent_commit=parent,
        )
    entries = [dataclasses.replace(upload.entry, revision=commit.oid) for upload in uploads]
    return Pushed(entries, str(commit.commit_url), keeps_card)


def _table() -> Sequence[ModelEntry]:
    return list(read_weights_table().values())


def _checked_token(where: hub.HubFile, token: str | None) -> str:
    if hub.is_offline():
        from dmsr_cli.hub.connection import why_offline

        raise WeightsError(f"{where}: {why_offline()} forbids requests to the Hub")
    from huggingface_hub import get_token

    found = token or get_token()
    if not found:
        raise WeightsError(
            f"{where}: pushing needs a token that may write to it; set HF_TOKEN, or run "
            "`hf auth login`"
        )
    return found


def _files_there(api: HfApi, where: hub.HubFile) -> dict[str, RepoFile]:
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(where.repo, revision=where.revision, recursive=True)
    return {file.path: file for file in tree if isinstance(file, RepoFile)}


def _sha256_of(file: RepoFile) -> str | None:
    """Of a large file, as weights are; the Hub does not say it of a small one."""
    return None if file.lfs is None else str(file.lfs.sha256)


def _refuse_different(
    uploads: Sequence[Upload], there: Mapping[str, RepoFile], where: hub.HubFile
) -> None:
    for upload in uploads:
        file = there.get(upload.entry.file)
        if file is not None and _sha256_of(file) != upload.entry.sha256:
            raise WeightsError(
                f"{where} has another {upload.entry.file} already; use --overwrite to replace it, "
                "or another --name"
            )


def _is_our_card(api: HfApi, where: hub.HubFile) -> bool:
    path = api.hf_hub_download(where.repo, CARD, revision=where.revision)
    head = Path(path).read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
    return _OURS in head


def _all_models(
    uploads: Sequence[Upload], there: Mapping[str, RepoFile], api: HfApi, where: hub.HubFile
) -> list[CardModel]:
    """What the card is about: what is pushed, and what else the repository has of our models."""
    models = {upload.entry.file: _card_model(upload) for upload in uploads}
    for name, file in there.items():
        if name.endswith(".safetensors") and name not in models:
            model = _remote_model(file, api, where)
            if model is not None:
                models[name] = model
    return [models[name] for name in sorted(models)]


def _card_model(upload: Upload) -> CardModel:
    entry = upload.entry
    known = {each.name for each in _table() if each.sha256 == entry.sha256}
    facts = read_facts(entry.name) if entry.name in known else None
    if facts is None and upload.scores:
        facts = ModelFacts(scores=upload.scores)
    return CardModel(
        name=entry.name,
        file=entry.file,
        config=entry.config,
        parameters=entry.parameters,
        sha256=entry.sha256,
        license=None if entry.license == UNKNOWN_LICENSE else entry.license,
        facts=facts,
    )


def _remote_model(file: RepoFile, api: HfApi, where: hub.HubFile) -> CardModel | None:
    """A model that is in the repository already, from its header; None if it is none of ours."""
    sha256 = _sha256_of(file)
    header = api.parse_safetensors_file_metadata(where.repo, file.path, revision=where.revision)
    config = _config_in(header.metadata, file.path)
    if config is None or sha256 is None:
        return None
    known = next((entry for entry in _table() if entry.sha256 == sha256), None)
    return CardModel(
        name=Path(file.path).stem,
        file=file.path,
        config=config,
        parameters=sum(header.parameter_count.values()),
        sha256=sha256,
        license=known.license if known else None,
        facts=read_facts(known.name) if known else None,
    )


def _config_in(metadata: Mapping[str, Any], file: str) -> DMSRConfig | None:
    try:
        return from_mapping(DMSRConfig, json.loads(metadata["dmsr_config"]), file)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError, SettingsError):
        return None
