-- Whether the seven public functions are ours, and not the reference's, as in a schema that was adopted.
select functions.public from {gw}._pgtasks_functions as functions
