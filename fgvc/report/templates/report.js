for(const table of document.querySelectorAll("table.sort")){
  const heads=[...table.tHead.rows[0].cells],body=table.tBodies[0];
  const key=(row,i)=>row.cells[i].dataset.v??row.cells[i].textContent;
  heads.forEach((head,i)=>{
    const button=document.createElement("button");
    button.type="button";button.append(...head.childNodes);head.append(button);
    button.addEventListener("click",()=>{
      const down=head.getAttribute("aria-sort")==="ascending",number=head.classList.contains("n");
      const order=(a,b)=>number?key(a,i)-key(b,i):key(a,i).localeCompare(key(b,i));
      heads.forEach(other=>other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort",down?"descending":"ascending");
      body.append(...[...body.rows].sort((a,b)=>down?order(b,a):order(a,b)));
    });
  });
}
