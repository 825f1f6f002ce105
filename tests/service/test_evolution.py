import pytest

from bus import Settings
from tests.service.evolution_contract import EvolutionContract


class TestEvolution(EvolutionContract):
    @pytest.fixture
    def ground(self, real_settings: Settings) -> Settings:
        return real_settings
