import pytest

from bus import Settings
from tests.service.evolution_contract import EvolutionContract
from tests.service.shared import shared_settings


class TestEvolutionInMemory(EvolutionContract):
    @pytest.fixture
    def ground(self) -> Settings:
        return shared_settings()
