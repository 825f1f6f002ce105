"""What a search index is declared with, and what its handlers return."""

from bus import Increment, Upsert
from bus.stores.search import SearchIndex
from tools.errors.entries import Section

searching = Section(
    "Search indices",
    "Told where the projection is declared; of what a handler returns, as where events are folded.",
)
SECTIONS = [searching]


@searching('ConfigurationError: SearchIndex(...): mappings= has no "properties"')
def fields_that_stand_alone() -> None:
    SearchIndex(url="http://127.0.0.1:9200", mappings={"owner": {"type": "text"}})


@searching("ConfigurationError: the field _bus is the bus's own")
def a_field_of_an_index_that_the_bus_keeps() -> None:
    SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {"_bus": {"type": "text"}}})


@searching("ConfigurationError: mappings= is a mapping")
def a_mapping_that_is_no_json() -> None:
    SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {"owner": {str}}})


@searching("ConfigurationError: leaves out parts of _source")
def an_index_without_its_source() -> None:
    source = {"enabled": False}
    SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}, "_source": source})


@searching("ConfigurationError: mappings= asks for routing")
def an_index_with_routing() -> None:
    routing = {"required": True}
    SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}, "_routing": routing})


@searching("ConfigurationError: settings= has index.translog.durability")
def an_index_that_forgets() -> None:
    settings = {"translog": {"durability": "async"}}
    SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}}, settings=settings)


@searching("ConfigurationError: the URL must begin with http:// or https://")
def an_engines_url_of_another_kind() -> None:
    SearchIndex(url="opensearch://127.0.0.1", mappings={"properties": {}})


@searching("ConfigurationError: the URL has an option verify")
def an_option_that_an_engines_url_does_not_have() -> None:
    SearchIndex(url="https://127.0.0.1:9200/?verify=no", mappings={"properties": {}})


@searching("ConfigurationError: which are for TLS, and begins with http://")
def an_engines_certificate_without_tls() -> None:
    SearchIndex(url="http://127.0.0.1:9200/?cafile=ca.pem", mappings={"properties": {}})


@searching("ConfigurationError: SearchIndex(url=...): cafile=none.pem cannot be read")
def an_engines_certificate_that_is_not_there() -> None:
    SearchIndex(url="https://127.0.0.1:9200/?cafile=none.pem", mappings={"properties": {}})


@searching("ConfigurationError: SearchIndex(prefix='Bank-')")
def a_prefix_in_capitals() -> None:
    SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}}, prefix="Bank-")


@searching("ProjectionError: the field 'place.town' has a dot")
def a_field_within_another() -> None:
    sink = SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}})
    sink.check("a1", Upsert({"place.town": "Bern"}))


@searching("ProjectionError: '_id' cannot be a field's name")
def a_field_of_the_engines_own() -> None:
    sink = SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}})
    sink.check("a1", Upsert(_id="a2"))


@searching("ProjectionError: field 'owners' holds a set, which JSON does not have")
def a_value_that_json_does_not_have() -> None:
    sink = SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}})
    sink.check("a1", Upsert(owners={"Ada", "Grace"}))


@searching("ProjectionError: field 'balance' holds nan, and JSON has no such number")
def a_number_that_json_does_not_have() -> None:
    sink = SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}})
    sink.check("a1", Increment(balance=float("nan")))


@searching("ProjectionError: the key has 600 bytes, and an index takes 512 at most")
def a_key_that_is_too_long_for_an_index() -> None:
    sink = SearchIndex(url="http://127.0.0.1:9200", mappings={"properties": {}})
    sink.check("a" * 600, Upsert(owner="Ada"))
