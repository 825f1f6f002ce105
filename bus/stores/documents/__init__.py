"""What writes make of documents: computed without a database, for all stores alike.

values        converts Python values to the form that documents keep
updates       what a batch writes into a read collection
applying      a MongoDB update of one document, exactly as MongoDB would apply it, or not at all
paths         the places within a document that an update names
matching      which documents a filter selects, and in which order
order         how MongoDB sorts values, whatever their types
"""
