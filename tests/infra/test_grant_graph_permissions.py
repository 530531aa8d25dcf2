"""Granting Graph permissions, against a fake directory and a fake `az`."""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from functions.routing import Role
from infra import directory as directory_module
from infra.directory import CLOUDS, Cloud
from infra.grant_graph_permissions import APP_ROLES, main
from shared.config.clouds import CLOUDS as PRODUCT_CLOUDS
from tests.infra.fake_directory import BOT, IDENTITY, MANAGEMENT, TENANT, FakeDirectory, Json, running
from tests.support.http_server import Quiet, serving

ARGUMENTS = ["--bot-app-id", BOT, "--identity-principal-id", IDENTITY]
CALLER = "33333333-0000-4000-8000-000000000001"
CREDENTIALS = "/applications/app-bot/federatedIdentityCredentials"
ISSUER = f"https://login.microsoftonline.com/{TENANT}/v2.0"


def _az(folder: Path, script: str) -> None:
    az = folder / "az"
    az.write_text(f"#!{sys.executable}\n{script}\n")
    az.chmod(0o755)


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeDirectory]:
    _az(tmp_path, """import json; print(json.dumps({"accessToken": "of-az"}))""")
    monkeypatch.setenv("PATH", str(tmp_path))
    with running() as served:
        here = Cloud(served.url, CLOUDS["global"].authority, CLOUDS["global"].audience)
        monkeypatch.setitem(directory_module.CLOUDS, "global", here)
        monkeypatch.setattr(directory_module, "wait", served.waited.append)
        yield served


def _principal(directory: FakeDirectory, app_id: str) -> str:
    return next(str(item["id"]) for item in directory.principals if item["appId"] == app_id)


def test_the_bot_gets_its_permission_its_credential_and_its_roles(directory: FakeDirectory) -> None:
    assert main(ARGUMENTS) == 0
    bot = _principal(directory, BOT)
    assert directory.lists[f"/servicePrincipals/{bot}/appRoleAssignments"][0].items() >= {
        ("principalId", bot),
        ("resourceId", "sp-graph"),
        ("appRoleId", "role-initiate"),
    }
    (credential,) = directory.lists[CREDENTIALS]
    assert credential["issuer"] == ISSUER
    assert credential["subject"] == IDENTITY
    assert credential["audiences"] == ["api://AzureADTokenExchange"]
    roles = directory.applications[0]["appRoles"]
    assert isinstance(roles, list)
    assert [role["value"] for role in roles] == ["Other.Role", *APP_ROLES]
    assert directory.tokens == {"Bearer of-az"}


def test_a_second_run_changes_nothing(directory: FakeDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    main([*ARGUMENTS, "--media"])
    directory.writes.clear()
    capsys.readouterr()
    assert main([*ARGUMENTS, "--media"]) == 0
    assert directory.writes == []
    assert capsys.readouterr().out == "ok: all is as it should be\n"


def test_a_dry_run_prints_every_step_and_writes_nothing(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, "--media", "--management-app-id", MANAGEMENT, "--dry-run"]) == 0
    assert directory.writes == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" on ")[0] for line in lines] == [
        f"would: federated credential call-keeper-{IDENTITY}",
        f"would: service principal of {BOT}",
        "would: permission Calls.Initiate.All, with consent",
        "would: permission Calls.AccessMedia.All, with consent",
        "would: app roles Calls.Read, Calls.Manage, Recordings.Read",
        f"would: service principal of {MANAGEMENT}",
        "dry run: nothing was written",
    ]


def test_media_is_granted_only_on_request_and_earlier_grants_stay(directory: FakeDirectory) -> None:
    main(ARGUMENTS)
    path = f"/servicePrincipals/{_principal(directory, BOT)}/appRoleAssignments"
    assert [item["appRoleId"] for item in directory.lists[path]] == ["role-initiate"]
    main([*ARGUMENTS, "--media"])
    assert [item["appRoleId"] for item in directory.lists[path]] == ["role-initiate", "role-media"]


def test_an_identity_that_is_the_bot_gets_the_permission_itself(directory: FakeDirectory) -> None:
    assert main([*ARGUMENTS, "--credential", "managedIdentity", "--management-app-id", MANAGEMENT]) == 0
    assert [item["principalId"] for item in directory.lists[f"/servicePrincipals/{IDENTITY}/appRoleAssignments"]] == [
        IDENTITY
    ]
    assert CREDENTIALS not in directory.lists


def test_a_caller_gets_each_role_once(directory: FakeDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    grant = [*ARGUMENTS, "--management-app-id", MANAGEMENT, "--grant-to", CALLER]
    assert main(grant) == 0
    resource = _principal(directory, MANAGEMENT)
    path = f"/servicePrincipals/{resource}/appRoleAssignedTo"
    assert [_given(directory, item) for item in directory.lists[path]] == [(CALLER, resource, "Calls.Manage")]
    directory.writes.clear()
    both = [*grant, "--role", "Calls.Manage", "Recordings.Read"]
    assert main([*both, "--dry-run"]) == 0
    assert directory.writes == []
    assert f"would: app role Recordings.Read to {CALLER}\n" in capsys.readouterr().out
    assert [main(both), main(both)] == [0, 0]
    assert [_given(directory, body) for _, _, body in directory.writes] == [(CALLER, resource, "Recordings.Read")]


def test_a_role_that_was_created_by_hand_is_used_and_another_callers_assignment_does_not_count(
    directory: FakeDirectory,
) -> None:
    by_hand: Json = {"id": "role-by-hand", "value": "Calls.Manage", "isEnabled": True}
    directory.applications[1]["appRoles"] = [by_hand]
    directory.principals.append({"id": "sp-management", "appId": MANAGEMENT})
    path = "/servicePrincipals/sp-management/appRoleAssignedTo"
    directory.lists[path] = [{"principalId": "another", "appRoleId": "role-by-hand"}]
    assert main([*ARGUMENTS, "--management-app-id", MANAGEMENT, "--grant-to", CALLER]) == 0
    assert _given(directory, directory.lists[path][1]) == (CALLER, "sp-management", "Calls.Manage")


def test_a_dry_run_prints_the_roles_before_they_exist(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, "--grant-to", CALLER, "--dry-run"]) == 0
    assert f"would: app role Calls.Manage to {CALLER}\n" in capsys.readouterr().out
    assert directory.writes == []


def test_a_role_without_a_caller_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*ARGUMENTS, "--role", "Calls.Manage"])
    assert "--role needs --grant-to" in capsys.readouterr().err


def _given(directory: FakeDirectory, assignment: Json) -> tuple[object, object, str]:
    roles = directory.applications[1]["appRoles"]
    assert isinstance(roles, list)
    (name,) = [role["value"] for role in roles if role["id"] == assignment["appRoleId"]]
    return assignment["principalId"], assignment["resourceId"], name


def test_an_identity_that_is_the_bot_needs_a_registration_for_management(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*ARGUMENTS, "--credential", "managedIdentity"])
    assert "--management-app-id" in capsys.readouterr().err


def test_a_credential_of_the_identity_is_found_on_a_later_page_and_its_audience_corrected(
    directory: FakeDirectory,
) -> None:
    of_others: Json = {
        "id": "1",
        "name": "github",
        "issuer": "https://github.example",
        "subject": "repo",
        "audiences": ["a"],
    }
    ours: Json = {"id": "2", "name": "mine", "issuer": ISSUER, "subject": IDENTITY, "audiences": ["wrong"]}
    directory.lists[CREDENTIALS] = [of_others, ours]
    assert main(ARGUMENTS) == 0
    assert len(directory.lists[CREDENTIALS]) == 2
    assert ours["audiences"] == ["api://AzureADTokenExchange"]
    assert of_others["audiences"] == ["a"]


def test_an_assignment_that_the_list_does_not_show_yet_is_no_error(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.principals.append({"id": "sp-bot", "appId": BOT})
    directory.broken["POST /servicePrincipals/sp-bot/appRoleAssignments"] = (
        400,
        {"error": {"code": "Request_BadRequest", "message": "Permission being assigned already exists on the object"}},
    )
    assert main(ARGUMENTS) == 0
    assert "there: permission Calls.Initiate.All, with consent" in capsys.readouterr().out


NOT_FOUND: tuple[int, Json] = (
    404,
    {"error": {"code": "Request_ResourceNotFound", "message": "Resource 'x' does not exist."}},
)
LATE: dict[str, tuple[int, Json]] = {
    "POST /appRoleAssignments": NOT_FOUND,
    "GET /appRoleAssignments": NOT_FOUND,
    "POST /appRoleAssignedTo": (
        400,
        {"error": {"code": "Request_BadRequest", "message": "Permission being assigned was not found on application"}},
    ),
    f"POST {CREDENTIALS}": (
        400,
        {"error": {"code": "Request_BadRequest", "message": "Not a valid reference update."}},
    ),
    "POST /servicePrincipals": (
        400,
        {
            "error": {
                "code": "Request_BadRequest",
                "message": "The appId of the service principal does not reference a valid application object.",
            }
        },
    ),
}


@pytest.mark.parametrize("request_line", LATE)
def test_an_object_that_the_directory_does_not_show_yet_is_waited_for(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str], request_line: str
) -> None:
    directory.late[request_line] = [LATE[request_line]] * 3
    assert main([*ARGUMENTS, "--grant-to", "bot"]) == 0
    assert len(directory.waited) == 3
    printed = capsys.readouterr().out
    assert printed.count("wait:  ") == 1, "one line, even if the wait is long"
    assert "the directory is not ready for it yet, 2 minutes at most" in printed
    bot = _principal(directory, BOT)
    assert len(directory.lists[f"/servicePrincipals/{bot}/appRoleAssignments"]) == 1
    assert len(directory.lists[f"/servicePrincipals/{bot}/appRoleAssignedTo"]) == 1


def test_the_directory_is_waited_for_two_minutes_at_most(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.broken["POST /servicePrincipals"] = LATE["POST /servicePrincipals"]
    assert main(ARGUMENTS) == 1
    assert sum(directory.waited, timedelta()) == timedelta(minutes=2)
    assert "does not reference a valid application object" in capsys.readouterr().err


def test_other_errors_and_missing_objects_are_not_waited_for(directory: FakeDirectory) -> None:
    directory.broken["PATCH /applications/app-bot"] = (400, {"error": {"code": "Request_BadRequest", "message": "Bad"}})
    assert main(ARGUMENTS) == 1
    assert main(["--bot-app-id", BOT, "--identity-principal-id", CALLER]) == 1
    assert directory.waited == []


def test_a_service_principal_that_a_later_look_up_misses_is_not_created_again(directory: FakeDirectory) -> None:
    """The look-up for the app roles may reach a replica that does not have the new service principal yet."""
    path = f"GET /servicePrincipals(appId='{BOT}')"
    directory.late[path] = [NOT_FOUND] * 3
    assert main([*ARGUMENTS, "--grant-to", "bot"]) == 0
    assert [where for _, where, _ in directory.writes].count("/servicePrincipals") == 1
    assert len(directory.late[path]) == 2


def test_a_redirect_is_not_followed(
    directory: FakeDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A redirect could send the account's token to any address."""

    class Elsewhere(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{directory.url}{self.path}")
            self.end_headers()

    with serving(Elsewhere) as address:
        monkeypatch.setitem(directory_module.CLOUDS, "global", Cloud(address, "", ""))
        assert main(ARGUMENTS) == 1
    assert directory.tokens == set()
    assert capsys.readouterr().err == f"failed: identity {IDENTITY}: HTTP 302 Found\n"


FAILURES: dict[str, tuple[tuple[int, Json], str]] = {
    "GET /servicePrincipals(appId='00000003-0000-0000-c000-000000000000')": (
        (503, {"error": {"code": "ServiceUnavailable", "message": "Try\nlater."}}),
        "failed: service principal of Microsoft Graph: HTTP 503 ServiceUnavailable: Try later.",
    ),
    f"POST {CREDENTIALS}": (
        (403, {"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges."}}),
        (
            f"failed: federated credential call-keeper-{IDENTITY} on app registration {BOT}: "
            "HTTP 403 Authorization_RequestDenied: Insufficient privileges. This account may not do that."
        ),
    ),
    f"GET {CREDENTIALS}": (
        (404, {"error": {"code": "Request_ResourceNotFound", "message": "Gone."}}),
        "failed: federated credentials: the directory has none. Check the id, the tenant and the cloud",
    ),
    "PATCH /applications/app-bot": (
        (400, {}),
        f"failed: app roles Calls.Read, Calls.Manage, Recordings.Read on app registration {BOT}: HTTP 400 Bad Request",
    ),
}


@pytest.mark.parametrize("request_line", FAILURES)
def test_an_error_is_one_line_that_names_the_step(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str], request_line: str
) -> None:
    directory.broken[request_line], expected = FAILURES[request_line]
    assert main(ARGUMENTS) == 1
    assert capsys.readouterr().err == f"{expected}\n"


def test_a_client_id_instead_of_the_identitys_object_id_is_an_error(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = str(directory.principals[1]["appId"])
    assert main(["--bot-app-id", BOT, "--identity-principal-id", wrong]) == 1
    assert "the directory has none. Check the id" in capsys.readouterr().err
    assert directory.writes == []


def test_a_principal_that_is_no_managed_identity_is_refused(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.principals[1]["servicePrincipalType"] = "Application"
    assert main(ARGUMENTS) == 1
    assert "that is not a managed identity" in capsys.readouterr().err


def test_a_permission_that_the_cloud_does_not_offer_is_an_error(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.principals[0]["appRoles"] = []
    assert main(ARGUMENTS) == 1
    assert capsys.readouterr().err == "failed: permission Calls.Initiate.All: Graph does not offer it in this cloud\n"


def test_without_a_login_the_error_says_to_log_in(
    directory: FakeDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _az(tmp_path, """import sys; sys.exit("Please run 'az login' to setup account.")""")
    assert main(ARGUMENTS) == 1
    assert capsys.readouterr().err == (
        "failed: token: az account get-access-token failed: Please run 'az login' to setup account. "
        "Run az login, in the right cloud\n"
    )
    assert directory.writes == []


def test_the_token_is_requested_for_the_graph_of_the_cloud(directory: FakeDirectory, tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    _az(
        tmp_path,
        f"import json, sys; open({str(seen)!r}, 'w').write(json.dumps(sys.argv)); print('{{\"accessToken\": \"t\"}}')",
    )
    main(ARGUMENTS)
    assert directory.url in json.loads(seen.read_text())


def test_an_unreachable_directory_is_an_error(
    directory: FakeDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(directory_module.CLOUDS, "global", Cloud("http://127.0.0.1:1", "", ""))
    assert main(ARGUMENTS) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"failed: identity {IDENTITY}: Graph could not be reached (")
    assert "refused" in printed
    assert printed.count("\n") == 1
    assert directory.writes == []


def test_a_next_page_at_another_host_gets_no_token(
    directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    page: Json = {"value": [], "@odata.nextLink": "http://127.0.0.1:1/v1.0/more"}
    directory.broken[f"GET {CREDENTIALS}"] = (200, page)
    assert main(ARGUMENTS) == 1
    assert capsys.readouterr().err == (
        "failed: federated credentials: the next page of the list is at an address that is not Graph's\n"
    )


def test_the_bot_gets_the_roles_without_its_object_id(directory: FakeDirectory) -> None:
    assert main([*ARGUMENTS, "--grant-to", "bot"]) == 0
    bot = _principal(directory, BOT)
    (given,) = directory.lists[f"/servicePrincipals/{bot}/appRoleAssignedTo"]
    assert (given["principalId"], given["resourceId"]) == (bot, bot)


def test_without_az_the_error_says_what_to_install(
    directory: FakeDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert main(ARGUMENTS) == 1
    assert "az is not installed. See https://aka.ms/azure-cli" in capsys.readouterr().err
    assert directory.writes == []


def test_the_clouds_and_roles_are_those_of_the_product() -> None:
    assert {name: (cloud.graph, cloud.authority, cloud.audience) for name, cloud in CLOUDS.items()} == {
        name: (cloud.graph_root, cloud.authority, cloud.assertion_audience) for name, cloud in PRODUCT_CLOUDS.items()
    }
    assert set(APP_ROLES) == set(Role)
