select
    batch.added, batch.ids, now()
from
    {gw}._pgtasks_add_unkeyed(
        $1::json, $2::json, $3::json, register => $4::boolean, with_ids => $5::boolean, announce => $6::bigint
    ) as batch
