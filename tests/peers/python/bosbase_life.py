"""The PyPI `bosbase` SDK lives the whole life of a backup.

Its uploads put an `@jsonPayload` part first; a bare file object arrives under the name `file`.
"""

from __future__ import annotations

import datetime
import io

from bosbase import BosBase, ClientResponseError

import life


class BosBaseSdk:
    error = ClientResponseError

    def login(self, base: str, password: str) -> BosBase:
        client = BosBase(base)
        answer = client.collection("_superusers").auth_with_password(life.EMAIL, password)
        assert answer["record"]["email"] == life.EMAIL and client.auth_store.is_valid()
        return client

    def stranger(self, base: str) -> BosBase:
        return BosBase(base)

    def list(self, client: BosBase) -> list[life.Item]:
        def item(raw: dict) -> life.Item:
            assert sorted(raw) == ["key", "modified", "size"], raw
            modified = datetime.datetime.fromisoformat(raw["modified"].replace("Z", "+00:00"))
            return life.Item(raw["key"], raw["size"], modified)

        return [item(raw) for raw in client.backups.get_full_list()]

    def upload(self, client: BosBase, name: str, data: bytes) -> None:
        client.backups.upload({"file": (name, io.BytesIO(data), "application/zip")})

    def url(self, client: BosBase, key: str, token: str) -> str:
        return client.backups.get_download_url(token, key)

    def settings(self, client: BosBase) -> dict:
        return client.settings.get_all()

    def update(self, client: BosBase, body: dict) -> dict:
        return client.settings.update(body=body)

    def job_ids(self, client: BosBase) -> dict[str, str]:
        return {job["id"]: job["expression"] for job in client.crons.get_full_list()}

    def health(self, client: BosBase) -> tuple[int, str, dict]:
        answer = client.health.check()
        return answer["code"], answer["message"], answer["data"]

    def details(self, error: ClientResponseError) -> tuple[int, dict]:
        return error.status, error.response


if __name__ == "__main__":
    life.live(BosBaseSdk())
    sdk = BosBaseSdk()
    client = sdk.login(life.A, life.PASSWORD)
    data = life.download(sdk, client, "point.zip")
    client.backups.upload({"file": io.BytesIO(data)})
    assert life.download(sdk, client, "file") == data
    # The helpers of this SDK that speak of backups.
    client.settings.set_auto_backup_schedule("0 3 * * *", 5)
    chosen = client.settings.get_backup_settings()
    assert (chosen["cron"], chosen["cronMaxKeep"]) == ("0 3 * * *", 5), chosen
    client.settings.disable_auto_backup()
    assert client.settings.get_backup_settings()["cron"] == ""
    life.fails(sdk, 400, client.settings.test_backups_s3)
