"""Who is there, by service and by queue."""

from agent_service.store.roster import Colleague, Roster


def colleague(name: str, *queues: str, service: str = "generation") -> Colleague:
    return Colleague(id=name, service=service, queues=frozenset(queues or ("default",)), process=name)


def test_workers_are_found_by_their_service_and_their_queue() -> None:
    roster = Roster()
    assert roster.working_for("generation") == ()
    day, night = colleague("day"), colleague("night", "default", "night")
    roster.learn([day, night, colleague("other", service="analysis")])
    assert roster.working_for("generation") == ("day", "night")
    assert roster.working_for("generation", "night") == ("night",)
    roster.learn([day])
    assert roster.working_for("generation") == ("day",)
    assert roster.working_for("generation", "night") == ()


def test_a_process_is_alone_where_only_workers_of_its_own_are_known() -> None:
    roster, alone = Roster(), []

    def note(*present: str) -> None:
        roster.learn([colleague(name) for name in present])
        alone.append(roster.alone)

    note()
    roster.join("mine")
    note("mine")
    note("mine", "other")
    roster.leave("mine")
    note("mine")
    assert alone == [True, True, False, False]
