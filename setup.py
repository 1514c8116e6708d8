"""What pyproject.toml cannot say: an installed command needs the settings of the host beside its host."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithHostSettings(build_py):
    """Copies host.json, which the platform wants at the root of what is deployed, into `local/host`."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "local", "host")
            target.mkdir(parents=True, exist_ok=True)
            self.copy_file("host.json", str(target / "host.json"))


setup(cmdclass={"build_py": BuildWithHostSettings})
