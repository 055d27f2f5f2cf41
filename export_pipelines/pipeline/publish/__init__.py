"""From files to a package that people receive: documents, archive, visibility, delivery, removal."""
