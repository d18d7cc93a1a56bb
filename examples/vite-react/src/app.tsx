// A page with pricing plans that captures choices, sign-ups, and small print that was seen.
import { AnalyticsCaptureOnViewed, useAnalytics } from "@millrace/react";
import { type FormEvent, useState } from "react";

const PLANS = [
  { name: "free", price: 0 },
  { name: "pro", price: 29 },
];

export function App() {
  const analytics = useAnalytics();
  const [plan, setPlan] = useState<string>();

  function choose(name: string, price: number) {
    setPlan(name);
    // The address is the page's own: this counts as a pageview.
    history.pushState({}, "", `/plans/${name}`);
    analytics?.capture("plan_chosen", { plan: name, price });
  }

  return (
    <main>
      <h1>Plans</h1>
      {PLANS.map(({ name, price }) => (
        <button key={name} type="button" onClick={() => choose(name, price)}>
          {name}
        </button>
      ))}
      {plan !== undefined && <SignUp plan={plan} />}
      <div style={{ height: "150vh" }} />
      <AnalyticsCaptureOnViewed name="small print" properties={{ page: "plans" }}>
        <p>Prices include tax.</p>
      </AnalyticsCaptureOnViewed>
    </main>
  );
}

function SignUp({ plan }: { plan: string }) {
  const analytics = useAnalytics();
  const [email, setEmail] = useState("");

  function submit(event: FormEvent) {
    event.preventDefault();
    analytics?.identify(email, { email, plan });
  }

  return (
    <form onSubmit={submit}>
      <input aria-label="email" type="email" required value={email} onChange={(e) => setEmail(e.target.value)} />
      <button type="submit">Sign up for {plan}</button>
    </form>
  );
}
