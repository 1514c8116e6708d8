// Who gets the alerts.

param environmentName string
param tags object
param emails array

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${environmentName}'
  location: 'Global'
  tags: tags
  properties: {
    groupShortName: 'sqlvmbackup'
    enabled: true
    emailReceivers: map(emails, email => { name: email, emailAddress: email, useCommonAlertSchema: true })
  }
}

output actionGroupId string = people.id
