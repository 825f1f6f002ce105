"""What mkdocstrings does not see by itself: how a NamedTuple is made."""

import griffe


class Records(griffe.Extension):
    """Gives each NamedTuple an `__init__` of its fields, so that its signature is shown."""

    def on_class(self, *, cls: griffe.Class, **_: object) -> None:
        if "__init__" in cls.members or not any(str(base) == "NamedTuple" for base in cls.bases):
            return
        fields = [one for one in cls.attributes.values() if one.annotation is not None]
        parameters = [
            griffe.Parameter(
                field.name,
                annotation=field.annotation,
                kind=griffe.ParameterKind.positional_or_keyword,
                default=field.value,
            )
            for field in fields
        ]
        cls.set_member(
            "__init__",
            griffe.Function("__init__", parameters=griffe.Parameters(*parameters), returns="None"),
        )
