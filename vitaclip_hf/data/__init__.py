"""Lists and folders of videos as one table, and the table's videos as clips and batches."""
