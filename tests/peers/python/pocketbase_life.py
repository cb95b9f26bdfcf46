"""The PyPI `pocketbase` SDK lives the whole life of a backup.

It sends an empty Authorization header with a login and does not encode keys in paths.
"""

from __future__ import annotations

import datetime

from pocketbase import PocketBase
from pocketbase.errors import ClientResponseError
from pocketbase.models import FileUpload

import life


class PocketBaseSdk:
    error = ClientResponseError

    def login(self, base: str, password: str) -> PocketBase:
        client = PocketBase(base)
        answer = client.collection("_superusers").auth_with_password(life.EMAIL, password)
        assert answer.is_valid and answer.record.email == life.EMAIL
        return client

    def stranger(self, base: str) -> PocketBase:
        return PocketBase(base)

    def list(self, client: PocketBase) -> list[life.Item]:
        items = client.backups.get_full_list()
        for item in items:
            assert isinstance(item.modified, datetime.datetime), f"not parsed: {item.modified}"
        utc = datetime.timezone.utc
        return [life.Item(i.key, i.size, i.modified.replace(tzinfo=utc)) for i in items]

    def upload(self, client: PocketBase, name: str, data: bytes) -> None:
        client.backups.upload(FileUpload((name, data, "application/zip")))

    def url(self, client: PocketBase, key: str, token: str) -> str:
        return client.backups.get_download_url(key, token)

    def settings(self, client: PocketBase) -> dict:
        return client.settings.get_all()

    def update(self, client: PocketBase, body: dict) -> dict:
        return client.settings.update(body)

    def job_ids(self, client: PocketBase) -> dict[str, str]:
        return {job.id: job.expression for job in client.crons.get_full_list()}

    def health(self, client: PocketBase) -> tuple[int, str, dict]:
        answer = client.health.check()
        return answer.code, answer.message, answer.data

    def details(self, error: ClientResponseError) -> tuple[int, dict]:
        return error.status, error.data


if __name__ == "__main__":
    life.live(PocketBaseSdk())
    # This SDK's own download sends the token in the query and the header at once.
    sdk = PocketBaseSdk()
    client = sdk.login(life.A, life.PASSWORD)
    assert client.backups.download("point.zip") == life.download(sdk, client, "point.zip")
