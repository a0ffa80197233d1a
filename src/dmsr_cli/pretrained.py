"""The network as users of the Hub library know networks: `from_pretrained`, `push_to_hub`.

It stands apart from `model`, which must not wait for the Hub library, and is above `weights`,
because the files are the same: one safetensors file that has its config in the header.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin

from dmsr_cli import hub, model
from dmsr_cli.config import DMSRConfig
from dmsr_cli.errors import SettingsError
from dmsr_cli.publishing import Upload, prepare, push
from dmsr_cli.weights import load_weights, save_weights


class DMSR(model.DMSR, ModelHubMixin, library_name="dmsr-cli", pipeline_tag="image-to-image"):
    """`model.DMSR`, which can be had from the Hub and pushed to it.

    The tensors' names, the constructor and the files are the same as without.
    """

    def __init__(self, config: DMSRConfig) -> None:
        super().__init__(config)

    @classmethod
    def from_pretrained(  # type: ignore[override] # the config is in the weight file's header
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        filename: str | None = None,
        scale: int | None = None,
        revision: str | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> DMSR:
        """A network with its weights, in evaluation mode, float32, on the CPU.

        Args:
            pretrained_model_name_or_path: "owner/repo", or a folder that `save_pretrained` wrote.
            filename: which .safetensors file; may be left out if there is only one.
            scale: which one, by the end of its name, as in mine-x4.safetensors.
            revision: branch, tag or commit; "main" if None.
            force_download: fetch it even if it is in the cache.
            local_files_only: make no request.
            token: instead of HF_TOKEN; False for none.

        Raises:
            SettingsError: that is no name of a repository.
            WeightsError: the file is missing, damaged, not clear, or cannot be fetched.
        """
        return cls._from_pretrained(
            model_id=str(pretrained_model_name_or_path),
            revision=revision,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            filename=filename,
            scale=scale,
        )

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        filename: str | None = None,
        scale: int | None = None,
        **others: Any,
    ) -> DMSR:
        if Path(model_id).is_dir():
            path = _file_in(Path(model_id), filename, scale)
        else:
            address = f"{hub.HUB_PREFIX}{model_id}" + (f"/{filename}" if filename else "")
            where = hub.parse_hub_address(f"{address}@{revision or 'main'}")
            with hub.offline(local_files_only):
                if where.file is None:
                    file = hub.find_weights(where, scale, token=token)
                    where = hub.HubFile(where.repo, file, where.revision)
                path = hub.download(where, force=force_download, token=token)
        network = load_weights(path)
        made = cls(network.config)
        made.load_state_dict(network.state_dict(), assign=True)
        return made.eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        """As `dmsr train` writes weights: float16, named by the scale."""
        save_weights(self, save_directory / f"dmsr-x{self.config.scale}.safetensors")

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card of a folder that `save_pretrained` writes; for the mixin."""
        return ModelCard("---\nlibrary_name: dmsr-cli\npipeline_tag: image-to-image\n---\n")

    def push_to_hub(  # type: ignore[override] # it pushes as `dmsr weights push` does
        self,
        repo_id: str,
        *,
        name: str = "dmsr",
        license: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        commit_message: str | None = None,
        overwrite: bool = False,
    ) -> str:
        """Push the weights, float16, and a model card; other models of the repository stay.

        Args:
            repo_id: "owner/name"; made if it is missing.
            name: of the model; the file is NAME-x4.safetensors.
            license: of the weights.
            private: whether a repository that is made is private.
            token: instead of HF_TOKEN.
            branch: "main" if None.
            commit_message: of the commit.
            overwrite: replace a file that is there with another content.

        Returns:
            The address of the commit.

        Raises:
            SettingsError: the name or the repository's name is impossible.
            WeightsError: there is no token, the file is there with another content, or the Hub
                refuses.
        """
        import tempfile

        revision = branch or "main"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_weights(self, path)
            upload: Upload = prepare(
                str(path), repo_id, name=name, license=license, revision=revision
            )
            pushed = push(
                [upload],
                repo_id,
                revision=revision,
                private=private,
                overwrite=overwrite,
                token=token,
                message=commit_message,
            )
        return pushed.url


def _file_in(folder: Path, filename: str | None, scale: int | None) -> Path:
    """The weight file of a folder that is meant."""
    if filename is not None:
        return folder / filename
    found = sorted(folder.glob("*.safetensors"))
    fitting = [path for path in found if hub.scale_in_name(path.name) == scale]
    if len(found) != 1 and len(fitting) != 1:
        raise SettingsError(f"{folder} has {len(found)} .safetensors files; name one with filename")
    return (fitting or found)[0]
