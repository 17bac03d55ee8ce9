import asyncio, pytest
from tests.conversations.test_socket import open_page, refusal


@pytest.mark.parametrize("n", range(25))
async def test_it(stack, open_page, alice, n):
    async with open_page(alice) as page:
        await page.hear()
        await asyncio.to_thread(stack.valkey.kill)
        r = await refusal(open_page, alice)
        if r != 403:
            print(stack.log_of("web").read_text()[-9000:])
        assert r == 403
        await asyncio.to_thread(stack.restart, stack.valkey)
